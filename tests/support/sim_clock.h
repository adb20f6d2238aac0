// Virtual time: nothing waits, step() moves to whatever is due next.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "core/clock.h"

namespace opsrelay::test {

/// Armed timers ordered by (due, arrival), so that a run is the same every time. The usual loop is
/// `io.poll()` until nothing is ready, then `step()`; run_until() is that loop. Thread: one.
class SimClock final : public Clock {
public:
    /// Monotonic time starts at one hour, calendar time at 2026-01-01 00:00:00 UTC unless given.
    SimClock();
    explicit SimClock(WallTime wall_start);

    [[nodiscard]] TimePoint now() const noexcept override { return now_; }
    [[nodiscard]] WallTime wall_now() const noexcept override;
    void arm(asio::steady_timer& timer, TimePoint due) override;
    void disarm(asio::steady_timer& timer) noexcept override;

    /// When the next timer is due; nullopt: none is armed, or only such as never end.
    [[nodiscard]] std::optional<TimePoint> next_due() const;
    /// Moves to the earliest due time and ends that one timer; false: there is none.
    bool step();
    /// Moves without ending timers; never back.
    void advance(nanoseconds by) { now_ += by; }
    /// Moves calendar time only, in either direction.
    void jump_wall(nanoseconds by) { wall_offset_ += by; }
    [[nodiscard]] std::size_t armed() const noexcept { return queue_.size(); }

    /// Polls and steps until `done()` or until nothing is due before `limit`. True: done() held.
    template <typename Done>
    bool run_until(asio::io_context& io, Done done, TimePoint limit) {
        while (true) {
            io.restart();
            while (!done() && io.poll_one() > 0) {
            }
            if (done()) return true;
            const auto due = next_due();
            if (!due || *due > limit) break;
            step();
        }
        if (limit > now_) now_ = limit;
        return done();
    }
    /// Polls and steps for this long.
    void run_for(asio::io_context& io, nanoseconds duration) {
        run_until(
            io, [] { return false; }, now_ + duration);
    }

private:
    using Key = std::pair<TimePoint, std::uint64_t>;
    TimePoint now_;
    TimePoint start_;
    WallTime wall_start_;
    nanoseconds wall_offset_{0};
    std::uint64_t arrivals_ = 0;
    std::map<Key, asio::steady_timer*> queue_;
    std::unordered_map<asio::steady_timer*, Key> keys_;
};

}  // namespace opsrelay::test
