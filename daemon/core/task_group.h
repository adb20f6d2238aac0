// Owns coroutines: whoever spawns one can stop it and wait for it. A bare `detached` leaks
// lifetimes.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <cstddef>
#include <list>
#include <string>

#include "core/clock.h"
#include "core/signal.h"

namespace opsrelay {

/// A set of coroutines on one executor. Every task starts with total cancellation enabled and with
/// throw_if_cancelled(false): it looks at its cancellation state at the head of its loop, and at
/// operation_aborted where it waits. A task that throws is logged and counted, the others go on.
/// Thread: the executor's. Joined before it is destroyed (asserted).
class TaskGroup {
public:
    TaskGroup(asio::any_io_executor executor, Clock& clock)
        : executor_(executor), clock_(clock), ended_(executor, clock) {}
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;
    ~TaskGroup();

    /// `name` is used in the log line of a task that throws.
    void spawn(std::string name, asio::awaitable<void> task);
    /// `total`: finish what is in hand, then stop. `terminal`: stop now.
    void cancel(asio::cancellation_type type);
    [[nodiscard]] asio::awaitable<void> join();
    /// False when tasks are still running at `due`.
    [[nodiscard]] asio::awaitable<bool> join_until(TimePoint due);

    /// Tasks that run, or whose end has not been taken note of yet.
    [[nodiscard]] std::size_t size() const noexcept { return tasks_.size(); }
    /// Tasks that ended with an exception.
    [[nodiscard]] std::size_t failed() const noexcept { return failed_; }
    [[nodiscard]] const asio::any_io_executor& executor() const noexcept { return executor_; }

private:
    struct Task {
        asio::cancellation_signal signal;
        bool ended = false;
    };
    void forget(std::list<Task>::iterator task);

    asio::any_io_executor executor_;
    Clock& clock_;
    Signal ended_;
    std::list<Task> tasks_;
    std::size_t failed_ = 0;
};

}  // namespace opsrelay
