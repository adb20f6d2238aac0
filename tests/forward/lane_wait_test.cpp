// What a lane waits for: upstream, a key, a period, an operator, room.
#include "forward/lane.h"

#include <doctest/doctest.h>

#include "forward/lane_world.h"

namespace opsrelay::forward {

namespace {

using test::between;
using World = test::LaneWorld;

}  // namespace

TEST_CASE("forward/lane: without a key nothing is sent") {
    World world;
    world.enter(LaneState::no_key);
    world.now += hours{24};
    CHECK(world.lane.next(world.now).action == Action::wait);
    CHECK(world.lane.next(world.now).until == TimePoint::max());
    world.lane.on_key(true, world.at());
    CHECK(world.lane.next(world.now).action == Action::start);
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

TEST_CASE("forward/lane: a last try before shutdown is one probe") {
    World world;
    world.enter(LaneState::plan_limited);
    world.lane.try_now(world.at());
    CHECK(world.lane.next(world.now).action == Action::probe);
    world.request(Verdict::plan_limited);
    CHECK(world.lane.parked());
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
