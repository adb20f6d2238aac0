// Time behind a seam: the daemon uses SystemClock, the simulation a virtual clock. No other file
// asks the operating system what time it is.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>

#include "core/units.h"

namespace opsrelay {

namespace asio = boost::asio;

using TimePoint = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

class Clock {
public:
    virtual ~Clock() = default;

    /// Monotonic time: deadlines, intervals, ages within this process.
    [[nodiscard]] virtual TimePoint now() const noexcept = 0;
    /// Calendar time: what is stored and shown. May jump.
    [[nodiscard]] virtual WallTime wall_now() const noexcept = 0;
    /// Makes a pending or later `timer.async_wait` end at `due`; the wait's error code says
    /// nothing. Every arm() is followed by a disarm() before the timer dies. Thread: the timer's
    /// executor.
    virtual void arm(asio::steady_timer& timer, TimePoint due) = 0;
    virtual void disarm(asio::steady_timer& timer) noexcept = 0;

    /// Returns at `due`, or earlier when the calling coroutine is cancelled (nothing is thrown: the
    /// caller looks at its cancellation state).
    [[nodiscard]] asio::awaitable<void> sleep_until(TimePoint due);
    [[nodiscard]] asio::awaitable<void> sleep_for(nanoseconds duration) {
        return sleep_until(now() + duration);
    }
};

class SystemClock final : public Clock {
public:
    [[nodiscard]] TimePoint now() const noexcept override;
    [[nodiscard]] WallTime wall_now() const noexcept override;
    void arm(asio::steady_timer& timer, TimePoint due) override;
    void disarm(asio::steady_timer& timer) noexcept override;
};

/// Milliseconds since 1970-01-01 UTC.
[[nodiscard]] constexpr std::int64_t unix_ms(WallTime time) noexcept {
    return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace opsrelay
