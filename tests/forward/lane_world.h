// What the tests of a lane share.
#pragma once

#include <doctest/doctest.h>

#include <optional>

#include "forward/http_date.h"
#include "forward/lane.h"

namespace opsrelay::test {

using namespace forward;

inline const WallTime kLaneWall = *parse_iso8601("2026-04-11T12:00:00Z");

/// A lane with its own time.
struct LaneWorld {
    explicit LaneWorld(std::uint64_t seed = 1)
        : rng(seed), lane(kDefaultLane, options(), rng, at()) {
        lane.on_key(true, at());
    }
    static Options options() {
        Options o;
        o.connections = 8;
        return o;
    }
    [[nodiscard]] Moment at() const {
        return {now, kLaneWall + std::chrono::duration_cast<WallTime::duration>(now - TimePoint{})};
    }

    Ticket begin() {
        const auto permit = lane.next(now);
        REQUIRE(permit.action != Action::wait);
        return lane.begin(permit.action);
    }
    Effect reply(Ticket ticket, Verdict verdict, std::optional<milliseconds> retry_after = {},
                 bool dead_room = true) {
        ++seq;
        const Attempt attempt{
            .seq = seq, .content_hash = seq, .failures = 0, .dead_room = dead_room};
        return lane.on_reply(ticket, attempt, {verdict, {}, retry_after}, "test", at());
    }
    Effect reject_without_room() { return reply(begin(), Verdict::rejected, {}, false); }
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

inline bool between(milliseconds value, milliseconds low, milliseconds high) {
    return value >= low && value <= high;
}

}  // namespace opsrelay::test
