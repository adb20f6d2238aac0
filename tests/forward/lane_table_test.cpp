// Every reply and every event in every state of a lane, against what is written down here by
// itself: the tables that the lane goes by must say the same.
#include "forward/lane_table.h"

#include <doctest/doctest.h>

#include <optional>

#include "forward/lane_world.h"

namespace opsrelay::forward {

namespace {

using World = test::LaneWorld;

/// What a reply leads to, wherever the lane was; exceptions are in expect().
struct Expected {
    LaneState state = LaneState::active;
    Fate fate = Fate::again;
    bool failed = false;
};

Expected expect(LaneState from, Verdict reply) {
    switch (reply) {
        case Verdict::delivered: return {LaneState::active, Fate::delivered, false};
        case Verdict::rejected:
            if (from == LaneState::misconfigured) return {from, Fate::again, true};
            return {LaneState::active, Fate::dead_letter, false};
        case Verdict::not_the_api: return {LaneState::misconfigured, Fate::again, true};
        case Verdict::misconfigured: return {LaneState::misconfigured, Fate::again, false};
        case Verdict::unauthorized: return {LaneState::unauthorized, Fate::again, false};
        case Verdict::plan_limited: return {LaneState::plan_limited, Fate::again, false};
        case Verdict::budget_stopped: return {LaneState::budget_stopped, Fate::again, false};
        case Verdict::throttled: return {LaneState::throttled, Fate::again, false};
        case Verdict::backoff: return {LaneState::backing_off, Fate::again, true};
    }
    return {};
}

/// Brings the lane to where it sends one request, from this state.
Ticket probe(World& world, LaneState from) {
    world.enter(from);
    if (from == LaneState::dead_full) {
        world.lane.try_now(world.at());
    } else if (from != LaneState::active) {
        world.pass();
    }
    if (world.lane.next(world.now).action == Action::check_status) world.status(false, false);
    return world.begin();
}

bool has_wait(LaneState state) {
    return state != LaneState::active && state != LaneState::no_key &&
           state != LaneState::dead_full && state != LaneState::paused;
}

}  // namespace

TEST_CASE("forward/lane_table: every reply to a probe, in every state that sends") {
    for (const auto& from : kLaneStates) {
        if (from.value == LaneState::no_key || from.value == LaneState::paused) continue;
        for (const auto& reply : kVerdicts) {
            CAPTURE(from.name);
            CAPTURE(reply.name);
            World world;
            const auto ticket = probe(world, from.value);
            const bool room = from.value != LaneState::dead_full;
            auto expected = expect(from.value, reply.value);
            if (!room && reply.value == Verdict::rejected) {
                expected = {LaneState::dead_full, Fate::again, false};
            }
            const auto effect = world.reply(ticket, reply.value, {}, room);
            CHECK(world.lane.state() == expected.state);
            CHECK(effect.fate == expected.fate);
            CHECK(effect.failed == expected.failed);
            CHECK(effect.put_back.empty());
            CHECK(world.lane.in_flight() == 0);
            CHECK(world.lane.retry_at().has_value() == has_wait(expected.state));
            CHECK(world.lane.cause().empty() == (expected.state == LaneState::active));
        }
    }
}

TEST_CASE("forward/lane_table: every reply during a pause, which shows when the pause ends") {
    for (const auto& from : kLaneStates) {
        if (from.value == LaneState::no_key || from.value == LaneState::paused) continue;
        if (from.value == LaneState::dead_full) continue;
        for (const auto& reply : kVerdicts) {
            CAPTURE(from.name);
            CAPTURE(reply.name);
            World world;
            const auto ticket = probe(world, from.value);
            world.lane.on_paused(true, world.at());
            const auto expected = expect(from.value, reply.value);
            CHECK(world.reply(ticket, reply.value).fate == expected.fate);
            CHECK(world.lane.state() == LaneState::paused);
            world.lane.on_paused(false, world.at());
            CHECK(world.lane.state() == expected.state);
        }
    }
}

TEST_CASE("forward/lane_table: every late reply, in every state: the lane stays as it is") {
    for (const auto& to : kLaneStates) {
        if (to.value == LaneState::active || to.value == LaneState::paused) continue;
        for (const auto& reply : kVerdicts) {
            CAPTURE(to.name);
            CAPTURE(reply.name);
            World world;
            world.request(Verdict::delivered);
            const auto late = world.begin();
            // A lone failure among deliveries is the record's.
            if (to.value == LaneState::backing_off) world.request(Verdict::backoff);
            world.enter(to.value);
            const auto due = world.lane.retry_at();
            const auto expected = expect(to.value, reply.value);
            const bool room = to.value != LaneState::dead_full;
            const bool no_room = !room && reply.value == Verdict::rejected;
            const auto effect = world.reply(late, reply.value, {}, room);
            CHECK(world.lane.state() == to.value);
            CHECK(effect.fate == (no_room ? Fate::again : expected.fate));
            CHECK(effect.failed == (!no_room && expected.failed));
            CHECK(world.lane.retry_at() == due);
        }
    }
}

TEST_CASE("forward/lane_table: every reply beside deliveries: what may be the event's fault") {
    for (const auto& reply : kVerdicts) {
        CAPTURE(reply.name);
        World world;
        world.request(Verdict::delivered);
        const auto alone = world.request(reply.value);
        const bool its_own = reply.value == Verdict::backoff || reply.value == Verdict::not_the_api;
        CHECK(may_be_event(reply.value) == its_own);
        const auto expected = expect(LaneState::active, reply.value);
        CHECK(world.lane.state() == (its_own ? LaneState::active : expected.state));
        CHECK((alone.delay > milliseconds{0}) == its_own);
        CHECK(alone.failed == expected.failed);
        if (!its_own) continue;
        world.request(Verdict::delivered);
        world.request(reply.value);
        CHECK(world.lane.state() == LaneState::active);
        world.request(reply.value);  // the second in a row
        CHECK(world.lane.state() == expected.state);
    }
}

TEST_CASE("forward/lane_table: every event in every state") {
    for (const auto& from : kLaneStates) {
        if (from.value == LaneState::paused) continue;
        CAPTURE(from.name);
        const bool parked =
            from.value == LaneState::plan_limited || from.value == LaneState::budget_stopped ||
            from.value == LaneState::unauthorized || from.value == LaneState::misconfigured;
        World given;
        given.enter(from.value);
        given.lane.on_key(true, given.at());
        const bool begins = from.value == LaneState::no_key;
        CHECK(given.lane.state() == (begins ? LaneState::active : from.value));
        CHECK((given.lane.next(given.now).action == Action::probe) == parked);

        World taken;
        taken.enter(from.value);
        taken.lane.on_key(false, taken.at());
        CHECK(taken.lane.state() == LaneState::no_key);
        CHECK_FALSE(taken.lane.retry_at().has_value());

        World room;
        room.enter(from.value);
        room.lane.on_dead_room(room.at());
        const bool waited = from.value == LaneState::dead_full;
        CHECK(room.lane.state() == (waited ? LaneState::active : from.value));
    }
}

TEST_CASE("forward/lane_table: the table of events says what workspace-status does, where asked") {
    for (const auto& state : kLaneStates) {
        if (state.value == LaneState::paused) continue;
        CAPTURE(state.name);
        const bool plan = state.value == LaneState::plan_limited;
        const bool learns = plan || state.value == LaneState::budget_stopped;
        CHECK((on_event_in(state.value, LaneEvent::period_known) == Turn::shorten) == learns);
        CHECK((on_event_in(state.value, LaneEvent::status_open) == Turn::begin) == plan);
        CHECK((on_event_in(state.value, LaneEvent::status_paused) == Turn::wait) == plan);
        CHECK((on_event_in(state.value, LaneEvent::status_unreadable) == Turn::ask_event) == plan);
    }
}

TEST_CASE("forward/lane_table: a page in place of single replies does not hold the lane") {
    World world;
    for (unsigned failures = 0; failures < 60; ++failures) {
        world.request(Verdict::delivered);
        const auto effect = world.lane.on_reply(world.begin(), {7, 7, failures},
                                                {Verdict::not_the_api, {}, {}}, "test", world.at());
        CHECK(effect.fate == Fate::again);
        CHECK(effect.failed);
        CHECK(effect.delay > milliseconds{0});
        CHECK(world.lane.state() == LaneState::active);
    }
}

TEST_CASE("forward/lane_table: a lane made anew obeys what upstream asked the one before") {
    World old;
    CHECK_FALSE(old.lane.told_to_wait().has_value());
    old.request(Verdict::throttled, hours{1});
    REQUIRE(old.lane.told_to_wait() == old.now + hours{1});
    old.now += minutes{20};
    Lane next(kDefaultLane, World::options(), old.rng, old.at());
    next.keep_wait(*old.lane.told_to_wait());
    CHECK(next.told_to_wait() == old.lane.told_to_wait());  // made anew once more
    next.on_key(true, old.at());
    CHECK(next.state() == LaneState::throttled);
    CHECK(next.retry_at() == old.now + minutes{40});
    CHECK(next.told_to_wait() == old.now + minutes{40});
    next.skip_wait(old.at());
    CHECK(next.next(old.now).action == Action::wait);
    next.on_key(false, old.at());
    next.on_key(true, old.at());  // a second key: the wait was the first one's
    CHECK(next.state() == LaneState::active);

    Lane late(kDefaultLane, World::options(), old.rng, old.at());
    late.keep_wait(old.now + minutes{40});
    old.now += hours{1};
    late.on_key(true, old.at());
    CHECK(late.state() == LaneState::active);
    World own;
    own.request(Verdict::throttled);  // our own wait is not upstream's
    CHECK_FALSE(own.lane.told_to_wait().has_value());
}

}  // namespace opsrelay::forward
