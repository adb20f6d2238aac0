#include "storage_watch.h"

#include <chrono>
#include <utility>

namespace opsrelay {

namespace {

constexpr milliseconds kLookEvery{1000};
constexpr milliseconds kStalledAfter{1000};
constexpr milliseconds kLogInterval{10'000};
constexpr milliseconds kPatience{300};  // a probe that waits a second must get its answer

}  // namespace

StorageWatch::StorageWatch(asio::any_io_executor forward, Clock& clock, Pipeline& pipeline)
    : clock_(clock),
      pipeline_(pipeline),
      throttle_(clock, kLogInterval),
      changed_(forward, clock),
      tasks_(forward, clock) {}

void StorageWatch::start() { tasks_.spawn("storage watch", look()); }

asio::awaitable<void> StorageWatch::stop() {
    stopping_ = true;
    changed_.notify_all();
    co_await tasks_.join();
}

milliseconds StorageWatch::stalled() const {
    if (!waiting_since_) return milliseconds{0};
    const auto waited = std::chrono::duration_cast<milliseconds>(clock_.now() - *waiting_since_);
    return waited >= kStalledAfter ? waited : milliseconds{0};
}

asio::awaitable<Snapshot> StorageWatch::snapshot() {
    const auto due = clock_.now() + kPatience;
    const auto wanted = asked_ + 1;
    begin_to_ask();
    while (answered_ < wanted && clock_.now() < due) co_await changed_.wait_until(due);
    co_return last_;
}

void StorageWatch::begin_to_ask() {
    ask_again_ = asking_;
    if (!std::exchange(asking_, true)) tasks_.spawn("snapshot", ask());
}

asio::awaitable<void> StorageWatch::ask() {
    do {
        ask_again_ = false;
        ++asked_;
        waiting_since_ = clock_.now();
        auto view = co_await pipeline_.snapshot();
        last_ = std::move(view);
        forecast_.note(clock_.now(), last_.store.committed);
        if (std::exchange(stall_known_, false)) log_answer();
        waiting_since_.reset();
        answered_ = asked_;
        changed_.notify_all();
    } while (ask_again_);
    asking_ = false;
}

asio::awaitable<void> StorageWatch::look() {
    while (!stopping_) {
        if (!asking_) begin_to_ask();
        const auto due = clock_.now() + kLookEvery;
        while (!stopping_ && clock_.now() < due) co_await changed_.wait_until(due);
        if (stalled().count() == 0 || std::exchange(stall_known_, true)) continue;
        log_stall();
    }
}

void StorageWatch::log_stall() {
    const auto hidden = throttle_.allow("stall");
    if (!hidden) return;
    log::warn("spool", "the disk does not answer; events wait in memory",
              {{"since_ms", stalled().count()},
               {"next",
                "HTTP clients get 503 until it does; datagrams are shed when "
                "memory.stall_buffer is full"},
               {"suppressed", *hidden}});
}

void StorageWatch::log_answer() {
    const auto hidden = throttle_.allow("answer");
    if (!hidden) return;
    const auto waited = clock_.now() - *waiting_since_;
    log::info("spool", "the disk answers again",
              {{"after_ms", std::chrono::duration_cast<milliseconds>(waited).count()},
               {"suppressed", *hidden}});
}

}  // namespace opsrelay
