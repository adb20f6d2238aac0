#include "forward/lane.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "forward/http_date.h"

namespace opsrelay::forward {

namespace {

const WallTime kWall = *parse_iso8601("2026-04-11T12:00:00Z");

/// A lane with its own time.
struct World {
    explicit World(std::uint64_t seed = 1) : rng(seed), lane(kDefaultLane, options(), rng, at()) {
        lane.on_key(true, at());
    }
    static Options options() {
        Options o;
        o.connections = 8;
        return o;
    }
    [[nodiscard]] Moment at() const {
        return {now, kWall + std::chrono::duration_cast<WallTime::duration>(now - TimePoint{})};
    }

    Ticket begin() {
        const auto permit = lane.next(now);
        REQUIRE(permit.action != Action::wait);
        return lane.begin(permit.action);
    }
    Effect reply(Ticket ticket, Verdict verdict, std::optional<milliseconds> retry_after = {}) {
        ++seq;
        return lane.on_reply(ticket, {seq, seq, 0}, {verdict, {}, retry_after}, "test", at());
    }
    Effect reject_without_room() {
        ++seq;
        const Attempt attempt{.seq = seq, .content_hash = seq, .failures = 0, .dead_room = false};
        return lane.on_reply(begin(), attempt, {Verdict::rejected, {}, {}}, "test", at());
    }
    Effect request(Verdict verdict, std::optional<milliseconds> retry_after = {}) {
        return reply(begin(), verdict, retry_after);
    }
    void status(bool readable, bool paused, const char* plan_end = "",
                const char* budget_end = "") {
        WorkspaceStatus s;
        s.readable = readable;
        s.paused = paused;
        s.plan_period_end = parse_iso8601(plan_end);
        s.budget_period_end = parse_iso8601(budget_end);
        lane.on_status(lane.begin(Action::check_status), s, at());
    }
    /// Goes to the lane's next attempt and says how long that took.
    milliseconds pass() {
        REQUIRE(lane.retry_at().has_value());
        const auto due = *lane.retry_at();
        const auto waited = due - now;
        if (due > now) {
            const auto before = lane.next(due - nanoseconds{1});
            CHECK((before.action == Action::wait || before.action == Action::check_status));
            now = due;
        }
        return std::chrono::duration_cast<milliseconds>(waited);
    }
    /// Brings a fresh lane into a state.
    void enter(LaneState state) {
        switch (state) {
            case LaneState::active: return;
            case LaneState::backing_off: request(Verdict::backoff); break;
            case LaneState::throttled: request(Verdict::throttled); break;
            case LaneState::unauthorized: request(Verdict::unauthorized); break;
            case LaneState::misconfigured: request(Verdict::misconfigured); break;
            case LaneState::no_key: lane.on_key(false, at()); break;
            case LaneState::dead_full: reject_without_room(); break;
            case LaneState::plan_limited:
                request(Verdict::plan_limited);
                status(false, false);
                break;
            case LaneState::budget_stopped:
                request(Verdict::budget_stopped);
                status(false, false);
                break;
            case LaneState::paused: lane.on_paused(true, at()); break;
        }
        REQUIRE(lane.state() == state);
    }

    TimePoint now{};
    Xoshiro rng;
    Lane lane;
    Seq seq = 0;
};

bool between(milliseconds value, milliseconds low, milliseconds high) {
    return value >= low && value <= high;
}

}  // namespace

TEST_CASE("forward/lane: each verdict of a probe leads to its state from every state") {
    struct Case {
        Verdict verdict;
        LaneState next;
        Fate fate;
    };
    const Case cases[] = {
        {Verdict::delivered, LaneState::active, Fate::delivered},
        {Verdict::rejected, LaneState::active, Fate::dead_letter},
        {Verdict::not_the_api, LaneState::misconfigured, Fate::again},
        {Verdict::misconfigured, LaneState::misconfigured, Fate::again},
        {Verdict::unauthorized, LaneState::unauthorized, Fate::again},
        {Verdict::plan_limited, LaneState::plan_limited, Fate::again},
        {Verdict::budget_stopped, LaneState::budget_stopped, Fate::again},
        {Verdict::throttled, LaneState::throttled, Fate::again},
        {Verdict::backoff, LaneState::backing_off, Fate::again},
    };
    for (const auto& from : kLaneStates) {
        // Those three do not probe.
        if (from.value == LaneState::no_key || from.value == LaneState::dead_full) continue;
        if (from.value == LaneState::paused) continue;
        for (const auto& test : cases) {
            CAPTURE(from.name);
            CAPTURE(to_string(test.verdict));
            World world;
            world.enter(from.value);
            if (from.value != LaneState::active) world.pass();
            if (world.lane.next(world.now).action == Action::check_status)
                world.status(false, false);
            const auto effect = world.request(test.verdict);
            const bool kept =
                from.value == LaneState::misconfigured && test.verdict == Verdict::rejected;
            CHECK(world.lane.state() == (kept ? LaneState::misconfigured : test.next));
            CHECK(effect.fate == (kept ? Fate::again : test.fate));
            CHECK(world.lane.in_flight() == 0);
        }
    }
}

TEST_CASE("forward/lane: without a key nothing is sent") {
    World world;
    world.enter(LaneState::no_key);
    world.now += hours{24};
    CHECK(world.lane.next(world.now).action == Action::wait);
    CHECK(world.lane.next(world.now).until == TimePoint::max());
    world.lane.on_key(true, world.at());
    CHECK(world.lane.next(world.now).action == Action::start);
}

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

TEST_CASE("forward/lane: Retry-After is obeyed to the millisecond, beyond our own cap too") {
    for (const auto verdict : {Verdict::throttled, Verdict::backoff}) {
        World world;
        world.request(Verdict::delivered);
        world.request(verdict, milliseconds{3'600'000});
        CHECK(world.lane.state() != LaneState::active);
        CHECK(world.pass() == milliseconds{3'600'000});
        CHECK(world.lane.next(world.now).action == Action::probe);
    }
    World world;
    for (int i = 0; i < 20; ++i) {
        if (i > 0) world.pass();
        world.request(Verdict::throttled);
        const auto wait =
            std::chrono::duration_cast<milliseconds>(*world.lane.retry_at() - world.now);
        CHECK(between(wait, milliseconds{1000}, milliseconds{60'000}));
    }
}

TEST_CASE("forward/lane: unauthorized and misconfigured probe every 1 to 15 minutes") {
    for (const auto verdict :
         {Verdict::unauthorized, Verdict::misconfigured, Verdict::not_the_api}) {
        World world;
        world.request(verdict);
        milliseconds last{0};
        for (int i = 0; i < 8; ++i) {
            last = world.pass();
            CHECK(between(last, minutes{1}, minutes{15}));
            if (i == 0) CHECK(last <= minutes{2});
            world.request(verdict);
        }
        CHECK(last >= milliseconds{minutes{15}} / 2);
    }
}

TEST_CASE("forward/lane: a new key is tried at once, and replies to the old one do not count") {
    for (const auto state : {LaneState::unauthorized, LaneState::misconfigured,
                             LaneState::plan_limited, LaneState::budget_stopped}) {
        CAPTURE(to_string(state));
        World world;
        world.enter(state);
        world.lane.on_key(true, world.at());
        CHECK(world.lane.next(world.now).action == Action::probe);
    }
    World world;
    const auto old = world.begin();
    world.lane.on_key(true, world.at());
    const auto effect = world.reply(old, Verdict::unauthorized);
    CHECK(effect.fate == Fate::again);
    CHECK(world.lane.state() == LaneState::active);
    // A probe with the old key is still under way: the new key waits for it, then goes at once.
    world.enter(LaneState::unauthorized);
    world.pass();
    const auto probe = world.begin();
    world.lane.on_key(true, world.at());
    CHECK(world.lane.next(world.now).action == Action::wait);
    world.reply(probe, Verdict::unauthorized);
    CHECK(world.lane.next(world.now).action == Action::probe);
}

TEST_CASE("forward/lane: plan_limited asks workspace-status every 10 to 15 minutes") {
    World world;
    world.request(Verdict::plan_limited);
    REQUIRE(world.lane.next(world.now).action == Action::check_status);  // to learn periodEnd
    world.status(true, false, "2026-04-30T23:59:59Z");
    CHECK(world.lane.state() == LaneState::plan_limited);  // the 402 is newer
    for (int i = 0; i < 5; ++i) {
        CHECK(between(world.pass(), minutes{10}, minutes{15}));
        REQUIRE(world.lane.next(world.now).action == Action::check_status);
        world.status(true, true, "2026-04-30T23:59:59Z");
        CHECK(world.lane.state() == LaneState::plan_limited);
    }
    world.pass();
    SUBCASE("not paused any more: sending resumes") {
        world.status(true, false);
        CHECK(world.lane.state() == LaneState::active);
        CHECK(world.lane.window() == 1);
    }
    SUBCASE("unreadable: one event is the probe") {
        world.status(false, false);
        REQUIRE(world.lane.next(world.now).action == Action::probe);
        world.request(Verdict::plan_limited);
        CHECK(world.lane.state() == LaneState::plan_limited);
        CHECK(world.lane.next(world.now).action == Action::check_status);
    }
}

TEST_CASE("forward/lane: no pause outlasts the period") {
    World plan;
    plan.request(Verdict::plan_limited);
    plan.status(true, true, "2026-04-11T12:03:00Z");
    CHECK(plan.pass() == minutes{3} + seconds{1});
    plan.status(true, true, "2026-04-11T12:03:00Z");  // over already: not rolled over yet
    CHECK(between(plan.pass(), minutes{10}, minutes{15}));

    World budget;
    budget.request(Verdict::budget_stopped);
    REQUIRE(budget.lane.next(budget.now).action == Action::check_status);
    budget.status(true, false, "", "2026-04-11T12:04:59Z");
    CHECK(budget.lane.state() == LaneState::budget_stopped);
    CHECK(budget.pass() == minutes{5});
    CHECK(budget.lane.next(budget.now).action == Action::probe);
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

TEST_CASE("forward/lane: a last try before shutdown is one probe") {
    World world;
    world.enter(LaneState::plan_limited);
    world.lane.try_now(world.at());
    CHECK(world.lane.next(world.now).action == Action::probe);
    world.request(Verdict::plan_limited);
    CHECK(world.lane.parked());
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

TEST_CASE("forward/lane: a refused event that finds no room for its dead letter is kept") {
    World world;
    world.request(Verdict::delivered);
    const auto other = world.begin();
    const auto effect = world.reject_without_room();
    CHECK(effect.fate == Fate::again);
    CHECK_FALSE(effect.failed);
    CHECK(world.lane.state() == LaneState::dead_full);
    CHECK(world.lane.parked());
    CHECK_FALSE(world.lane.retry_at().has_value());
    CHECK(world.reply(other, Verdict::delivered).fate == Fate::delivered);
    world.now += hours{24};
    CHECK(world.lane.next(world.now).action == Action::wait);
    CHECK(world.lane.next(world.now).until == TimePoint::max());
    world.lane.on_key(true, world.at());
    CHECK(world.lane.state() == LaneState::dead_full);
    world.lane.on_dead_room(world.at());
    CHECK(world.lane.state() == LaneState::active);
    CHECK(world.request(Verdict::rejected).fate == Fate::dead_letter);
}

TEST_CASE("forward/lane: events refused for want of room do not count as refused in a row") {
    World world;
    for (int i = 0; i < 9; ++i) {
        CHECK(world.request(Verdict::rejected).fate == Fate::dead_letter);
    }
    world.reject_without_room();
    world.lane.on_dead_room(world.at());
    const auto tenth = world.request(Verdict::rejected);
    CHECK(tenth.put_back.size() == 10);
    CHECK(world.lane.state() == LaneState::misconfigured);
    CHECK(world.lane.cause() == "test for 10 events in a row");
}

TEST_CASE("forward/lane: room changes nothing for lanes that wait for something else") {
    for (const auto state : {LaneState::backing_off, LaneState::unauthorized, LaneState::no_key}) {
        CAPTURE(to_string(state));
        World world;
        world.enter(state);
        world.lane.on_dead_room(world.at());
        CHECK(world.lane.state() == state);
    }
}

TEST_CASE("forward/lane: a pause lies over every state, which shows again when it ends") {
    for (const auto& row : kLaneStates) {
        if (row.value == LaneState::paused) continue;
        CAPTURE(row.name);
        World world;
        world.enter(row.value);
        const auto due = world.lane.retry_at();
        const auto since = world.lane.since();
        world.now += seconds{1};
        world.lane.on_paused(true, world.at());
        CHECK(world.lane.state() == LaneState::paused);
        CHECK(world.lane.since() == world.at().wall);
        CHECK(world.lane.parked());
        CHECK_FALSE(world.lane.retry_at().has_value());
        CHECK_FALSE(world.lane.cause().empty());
        world.lane.try_now(world.at());  // not even the last try before the end
        CHECK(world.lane.next(world.now + hours{24}).action == Action::wait);
        CHECK(world.lane.next(world.now + hours{24}).until == TimePoint::max());
        world.lane.on_paused(false, world.at());
        CHECK(world.lane.state() == row.value);
        CHECK(world.lane.since() == since);
        CHECK(world.lane.retry_at().has_value() == due.has_value());
    }
}

TEST_CASE("forward/lane: replies that come during a pause count") {
    World world;
    world.request(Verdict::delivered);
    const auto good = world.begin();
    const auto bad = world.begin();
    world.lane.on_paused(true, world.at());
    CHECK(world.reply(good, Verdict::delivered).fate == Fate::delivered);
    CHECK(world.reply(bad, Verdict::unauthorized).fate == Fate::again);
    CHECK(world.lane.state() == LaneState::paused);
    world.lane.on_paused(false, world.at());
    CHECK(world.lane.state() == LaneState::unauthorized);
}

TEST_CASE("forward/lane: a wait is skipped once, but not one that upstream asked for") {
    for (const auto verdict : {Verdict::backoff, Verdict::throttled, Verdict::unauthorized}) {
        World world;
        for (int i = 0; i < 8; ++i) {
            world.request(verdict);
            world.pass();
        }
        world.request(verdict);
        world.lane.skip_wait(world.at());
        CHECK(world.lane.next(world.now).action == Action::probe);
        world.request(verdict);
        CHECK(world.lane.next(world.now).action == Action::wait);
    }
    for (const auto verdict : {Verdict::backoff, Verdict::throttled}) {
        World world;
        world.request(verdict, hours{1});
        world.lane.skip_wait(world.at());
        CHECK(world.lane.next(world.now).action == Action::wait);
        CHECK(world.pass() == hours{1});
        world.request(verdict);  // this time it asked for nothing
        world.lane.skip_wait(world.at());
        CHECK(world.lane.next(world.now).action == Action::probe);
    }
}

}  // namespace opsrelay::forward
