// What the pump gives up: records that are too old, and the oldest ones when the spool is full.
#include <utility>

#include "forward/pump.h"

namespace opsrelay::forward {

namespace {

constexpr milliseconds kExpireEvery{1000};

}  // namespace

void Pump::drop_below(Seq end, DropReason reason) {
    if (finishing_) return;
    if (drop_ && drop_->end >= end) return;
    drop_ = Drop{end, reason};
    settleable_.notify_all();
}

void Pump::set_max_age(milliseconds age) {
    max_age_ = age;
    const bool wanted = age.count() > 0 && !expiring_;
    if (wanted) timers_.spawn("forward expire", expire_loop());
    expiring_ = expiring_ || wanted;
}

void Pump::drop_expired() {
    if (max_age_.count() == 0) return;
    const auto oldest = clock_.wall_now() - max_age_;
    if (const auto end = batcher_.end_of_older(unix_ms(oldest))) {
        drop_below(*end, DropReason::expired);
    }
}

asio::awaitable<void> Pump::expire_loop() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        co_await clock_.sleep_for(kExpireEvery);
        drop_expired();
        co_await expire_deferred();
    }
}

asio::awaitable<void> Pump::drop_records() {
    const auto drop = *std::exchange(drop_, std::nullopt);
    auto forgotten = batcher_.forget_below(drop.end);
    if (forgotten.nothing) {
        go_on();
        co_return;
    }
    settling_ = true;
    const auto dropped =
        co_await settler_.drop(name_.lane, forgotten.end, std::move(forgotten.kept), drop.reason);
    settling_ = false;
    note_deferred(dropped.deferred);
    if (!dropped.persisted && unpersisted_ == 0) {
        unpersisted_ = 1;
        persist_due_ = clock_.now() + kStorageRetry;
    }
    if (dropped.records > 0) {
        progress_at_ = clock_.now();
        log_drop(drop.reason, dropped.records);
    }
    publish();
    go_on();
}

}  // namespace opsrelay::forward
