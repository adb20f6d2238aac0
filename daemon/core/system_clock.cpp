#include <boost/asio/this_coro.hpp>

#include "core/clock.h"
#include "core/nothrow.h"

namespace opsrelay {

asio::awaitable<void> Clock::sleep_until(TimePoint due) {
    asio::steady_timer timer(co_await asio::this_coro::executor);
    arm(timer, due);
    co_await timer.async_wait(nothrow);
    disarm(timer);
}

TimePoint SystemClock::now() const noexcept { return std::chrono::steady_clock::now(); }

WallTime SystemClock::wall_now() const noexcept { return std::chrono::system_clock::now(); }

void SystemClock::arm(asio::steady_timer& timer, TimePoint due) { timer.expires_at(due); }

void SystemClock::disarm(asio::steady_timer&) noexcept {}

}  // namespace opsrelay
