// A condition variable for coroutines of one thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <list>

#include "core/clock.h"

namespace opsrelay {

/// notify_all() wakes every coroutine that called wait() before it. The usual loop is
///     while (!condition) co_await signal.wait();
/// Nothing is missed between the test and the wait, however the wait is composed: the call itself,
/// not its first resumption, is the moment that counts. Thread: one, the executor's.
class Signal {
public:
    Signal(asio::any_io_executor executor, Clock& clock)
        : executor_(std::move(executor)), clock_(clock) {}
    Signal(const Signal&) = delete;
    Signal& operator=(const Signal&) = delete;

    void notify_all();
    /// Ends at the next notify_all() or when the calling coroutine is cancelled.
    [[nodiscard]] asio::awaitable<void> wait() { return wait_since(generation_, TimePoint::max()); }
    /// Also ends at `due`.
    [[nodiscard]] asio::awaitable<void> wait_until(TimePoint due) {
        return wait_since(generation_, due);
    }

private:
    asio::awaitable<void> wait_since(std::uint64_t generation, TimePoint due);

    asio::any_io_executor executor_;
    Clock& clock_;
    std::uint64_t generation_ = 0;
    std::list<asio::steady_timer> waiters_;  // a list: coroutines hold iterators
};

}  // namespace opsrelay
