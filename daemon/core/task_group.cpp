#include "core/task_group.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <exception>

#include "core/assert.h"
#include "core/log.h"

namespace opsrelay {

namespace {

asio::awaitable<void> with_quiet_cancellation(asio::awaitable<void> task) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation(),
                                                       asio::enable_total_cancellation());
    co_await asio::this_coro::throw_if_cancelled(false);
    co_await std::move(task);
}

std::string what(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return "unknown exception";
    }
}

}  // namespace

TaskGroup::~TaskGroup() { OPSRELAY_ASSERT(tasks_.empty()); }

void TaskGroup::spawn(std::string name, asio::awaitable<void> task) {
    const auto signal = tasks_.emplace(tasks_.end());
    auto on_end = [this, signal, name = std::move(name)](const std::exception_ptr& error) {
        if (error) {
            ++failed_;
            log::error("core", "task failed", {{"task", name}, {"error", what(error)}});
        }
        tasks_.erase(signal);
        ended_.notify_all();
    };
    asio::co_spawn(executor_, with_quiet_cancellation(std::move(task)),
                   asio::bind_cancellation_slot(signal->slot(), std::move(on_end)));
}

void TaskGroup::cancel(asio::cancellation_type type) {
    // A handler run by emit() may end its task and erase its signal: step before emitting.
    for (auto it = tasks_.begin(); it != tasks_.end();) (it++)->emit(type);
}

asio::awaitable<void> TaskGroup::join() {
    while (!tasks_.empty()) co_await ended_.wait();
}

asio::awaitable<bool> TaskGroup::join_until(TimePoint due) {
    while (!tasks_.empty() && clock_.now() < due) co_await ended_.wait_until(due);
    co_return tasks_.empty();
}

}  // namespace opsrelay
