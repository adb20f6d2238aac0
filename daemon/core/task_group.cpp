#include "core/task_group.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
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
    const auto entry = tasks_.emplace(tasks_.end());
    auto on_end = [this, entry, name = std::move(name)](const std::exception_ptr& error) {
        if (error) {
            ++failed_;
            log::error("core", "task failed", {{"task", name}, {"error", what(error)}});
        }
        forget(entry);
    };
    asio::co_spawn(executor_, with_quiet_cancellation(std::move(task)),
                   asio::bind_cancellation_slot(entry->signal.slot(), std::move(on_end)));
}

// co_spawn's cancellation handler lives in the signal and may have posted itself (it dispatches to
// the executor): the signal goes only after what was posted before has run, and is not used again.
void TaskGroup::forget(std::list<Task>::iterator task) {
    task->ended = true;
    asio::post(executor_, [this, task] {
        tasks_.erase(task);
        ended_.notify_all();
    });
}

void TaskGroup::cancel(asio::cancellation_type type) {
    for (auto& task : tasks_) {
        if (!task.ended) task.signal.emit(type);
    }
}

asio::awaitable<void> TaskGroup::join() {
    while (!tasks_.empty()) co_await ended_.wait();
}

asio::awaitable<bool> TaskGroup::join_until(TimePoint due) {
    while (!tasks_.empty() && clock_.now() < due) co_await ended_.wait_until(due);
    co_return tasks_.empty();
}

}  // namespace opsrelay
