#include "forward/lane.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "forward/lane_world.h"

namespace opsrelay::forward {

namespace {

using test::between;
using World = test::LaneWorld;

}  // namespace

TEST_CASE("forward/lane: after a recovery requests in flight go 1, 2, 4, 8") {
    World world;
    for (const std::size_t window : {1U, 2U, 4U, 8U, 8U}) {
        CHECK(world.lane.window() == window);
        std::vector<Ticket> tickets;
        while (world.lane.next(world.now).action == Action::start) tickets.push_back(world.begin());
        CHECK(tickets.size() == window);
        for (const auto ticket : tickets) world.reply(ticket, Verdict::delivered);
    }
    world.request(Verdict::throttled);
    world.pass();
    world.request(Verdict::delivered);
    CHECK(world.lane.window() == 2);
}

TEST_CASE("forward/lane: one failure among deliveries is the record's, two in a row the lane's") {
    World world;
    world.request(Verdict::delivered);
    const auto alone = world.request(Verdict::backoff);
    CHECK(world.lane.state() == LaneState::active);
    CHECK(alone.failed);
    CHECK(alone.delay > milliseconds{0});
    world.request(Verdict::delivered);
    world.request(Verdict::backoff);
    CHECK(world.lane.state() == LaneState::active);
    world.request(Verdict::backoff);
    CHECK(world.lane.state() == LaneState::backing_off);
}

TEST_CASE("forward/lane: a stuck record never opens the breaker of a lane that delivers") {
    World world;
    const auto fail = [&world](unsigned failures, std::optional<milliseconds> retry_after = {}) {
        const Attempt attempt{1, 0, failures};
        return world.lane.on_reply(world.begin(), attempt, {Verdict::backoff, {}, retry_after},
                                   "test", world.at());
    };
    world.request(Verdict::delivered);
    for (unsigned failures = kStuckFailures; failures < kStuckFailures + 50; ++failures) {
        const auto effect = fail(failures);
        CHECK(effect.fate == Fate::again);
        CHECK(effect.failed);
        CHECK(between(effect.delay, milliseconds{1}, World::options().backoff_max));
    }
    CHECK(fail(kStuckFailures, hours{1}).delay == hours{1});
    CHECK(world.lane.state() == LaneState::active);
    SUBCASE("failures of other records count as ever") {
        fail(kStuckFailures - 1);
        CHECK(world.lane.state() == LaneState::active);
        fail(kStuckFailures);
        CHECK(world.lane.state() == LaneState::active);
        fail(0);
        CHECK(world.lane.state() == LaneState::backing_off);
        world.pass();
        fail(kStuckFailures);  // a probe that fails, whatever the record
        CHECK(world.lane.state() == LaneState::backing_off);
        CHECK(world.lane.retry_at().has_value());
    }
    SUBCASE("a lane that has delivered nothing since it became active is not trusted") {
        world.lane.on_key(false, world.at());
        world.lane.on_key(true, world.at());
        fail(kStuckFailures);
        CHECK(world.lane.state() == LaneState::backing_off);
    }
}

TEST_CASE("forward/lane: ten rejections in a row stop the lane and come back") {
    World world;
    for (int i = 0; i < 9; ++i) {
        const auto effect = world.request(Verdict::rejected);
        CHECK(effect.fate == Fate::dead_letter);
        CHECK(effect.put_back.empty());
    }
    SUBCASE("a delivery between starts the count again") {
        world.request(Verdict::delivered);
        for (int i = 0; i < 9; ++i) world.request(Verdict::rejected);
        CHECK(world.lane.state() == LaneState::active);
    }
    SUBCASE("the tenth") {
        const auto tenth = world.request(Verdict::rejected);
        CHECK(tenth.fate == Fate::dead_letter);
        CHECK(tenth.put_back == std::vector<Seq>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
        CHECK(world.lane.state() == LaneState::misconfigured);
        world.pass();
        const auto probe = world.request(Verdict::rejected);
        CHECK(probe.fate == Fate::again);
        CHECK(probe.failed);
        CHECK(world.lane.state() == LaneState::misconfigured);
        world.pass();
        world.request(Verdict::delivered);
        CHECK(world.lane.state() == LaneState::active);
        // Refused again after upstream took others: they are to blame, and do not stop the lane.
        for (std::uint64_t hash = 1; hash <= 10; ++hash) {
            const auto again = world.lane.on_reply(world.begin(), {100 + hash, hash, 0},
                                                   {Verdict::rejected, {}, {}}, "test", world.at());
            CHECK(again.fate == Fate::dead_letter);
            CHECK(again.put_back.empty());
        }
        CHECK(world.lane.state() == LaneState::active);
    }
}

TEST_CASE("forward/lane: late replies change the record, not the lane") {
    World world;
    world.request(Verdict::delivered);
    const auto first = world.begin();
    const auto second = world.begin();
    world.reply(first, Verdict::unauthorized);
    const auto retry_at = world.lane.retry_at();
    CHECK(world.reply(second, Verdict::delivered).fate == Fate::delivered);
    CHECK(world.lane.state() == LaneState::unauthorized);
    CHECK(world.lane.retry_at() == retry_at);

    World throttled;
    throttled.request(Verdict::delivered);
    const auto a = throttled.begin();
    const auto b = throttled.begin();
    throttled.reply(a, Verdict::throttled, milliseconds{1000});
    throttled.reply(b, Verdict::throttled, milliseconds{9000});
    CHECK(throttled.pass() == milliseconds{9000});
}

TEST_CASE(
    "forward/lane: whatever upstream replies, a lane that is not active has one request out") {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        World world{seed};
        Xoshiro dice{seed * 977};
        struct Out {
            Ticket ticket;
            Action action;
        };
        std::vector<Out> in_flight;
        const auto probes = [&] {
            return std::count_if(in_flight.begin(), in_flight.end(),
                                 [](const Out& o) { return o.action != Action::start; });
        };
        for (int i = 0; i < 400; ++i) {
            const auto permit = world.lane.next(world.now);
            if (permit.action != Action::wait && dice.chance(600)) {
                CHECK((permit.action == Action::start) ==
                      (world.lane.state() == LaneState::active));
                in_flight.push_back({world.lane.begin(permit.action), permit.action});
                CHECK(probes() <= 1);
                CHECK(in_flight.size() <= 8);
                CHECK(world.lane.in_flight() == in_flight.size());
            } else if (!in_flight.empty() && dice.chance(700)) {
                const auto index = dice.between(0, in_flight.size() - 1);
                const auto out = in_flight[index];
                in_flight.erase(in_flight.begin() + static_cast<std::ptrdiff_t>(index));
                if (out.action == Action::check_status) {
                    WorkspaceStatus status;
                    status.readable = dice.chance(500);
                    status.paused = dice.chance(500);
                    world.lane.on_status(out.ticket, status, world.at());
                } else {
                    const auto verdict = kVerdicts[dice.between(0, kVerdicts.size() - 1)].value;
                    world.reply(out.ticket, dice.chance(400) ? Verdict::delivered : verdict);
                }
            } else if (dice.chance(100)) {
                world.lane.on_key(true, world.at());
            } else if (world.lane.retry_at() && dice.chance(500)) {
                world.now = std::max(world.now, *world.lane.retry_at());
            } else {
                world.now += dice.between(milliseconds{1}, milliseconds{1000});
            }
        }
        for (const auto& out : in_flight) world.lane.on_abandoned(out.ticket);
        CHECK(world.lane.in_flight() == 0);
    }
}

TEST_CASE("forward/lane: what to do names the lane's own keys") {
    CHECK(what_next(LaneState::no_key, "default") ==
          "events are spooled; put the workspace's API key into a file and name it with "
          "upstream.api_key_file or OPSRELAY_API_KEY_FILE");
    CHECK(
        what_next(LaneState::no_key, "europe").ends_with("name it with lanes.europe.api_key_file"));
    CHECK(what_next(LaneState::misconfigured, "europe")
              .starts_with("events are spooled; check lanes.europe.url and lanes.europe.path: "));
}

}  // namespace opsrelay::forward
