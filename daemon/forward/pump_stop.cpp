// How a pump ends: with what is under way, or with everything that can be delivered in time.
#include <algorithm>

#include "forward/pump.h"

namespace opsrelay::forward {

namespace {

constexpr milliseconds kDrainTryEvery{500};  // a spool that is about to end tries that often

}  // namespace

asio::awaitable<void> Pump::stop(TimePoint deadline) {
    stopping_ = true;
    wake_all();
    timers_.cancel(asio::cancellation_type::terminal);
    // Named first: g++ 12 miscompiles a co_await in the condition of an if that awaits inside.
    const bool finished = co_await sends_.join_until(deadline);
    if (!finished) {
        aborting_ = true;
        sends_.cancel(asio::cancellation_type::terminal);
        co_await sends_.join();
    }
    finishing_ = true;
    wake_all();
    co_await loops_.join();
    co_await timers_.join();
    upstream_.tend_connections(true);  // idle ones are not needed any more
    publish();
}

bool Pump::queue_settled() const noexcept {
    return batcher_.drained() && ends_.empty() && !settling_ && put_back_.empty();
}

bool Pump::all_settled() const noexcept { return queue_settled() && deferred_.records == 0; }

asio::awaitable<bool> Pump::drain_until(TimePoint deadline) {
    draining_ = true;
    notify_records();  // "nothing there" is only believed when read again
    co_await hasten_deferred();
    bool last_try_made = false;
    auto next_try = clock_.now();
    while (!stopping_ && clock_.now() < deadline) {
        if (all_settled()) co_return true;
        const auto now = clock_.now();
        // Each deferred record has had its last try.
        if (queue_settled() && !trying_ && deferred_due() > now) co_return false;
        const bool idle = lane_.in_flight() == 0 && !batcher_.want_read();
        const bool late = lane_.retry_at().value_or(now) > deadline;
        if (idle && (lane_.parked() || (late && lane_.state() == LaneState::throttled))) {
            if (last_try_made || lane_.state() == LaneState::no_key) co_return false;
            last_try_made = true;
            try_now();
            if (lane_.in_flight() == 0) co_return all_settled();
        } else if (idle && late && now >= next_try) {
            // A server may come back any moment, and later is too late: do not wait out the
            // backoff.
            next_try = now + kDrainTryEvery;
            try_now();
        }
        co_await changed_.wait_until(next_try > now ? std::min(next_try, deadline) : deadline);
    }
    co_return all_settled();
}

void Pump::skip_wait() {
    lane_.skip_wait(moment());
    if (!stopping_) timers_.spawn("forward hasten", hasten_deferred());
    changed_.notify_all();
    go_on();
}

void Pump::clear_metrics() {
    for (auto* const state : states_) state->set(0);
    plan_gauges_.clear();
    retry_at_gauge_.set(0);
    concurrency_gauge_.set(0);
    depth_gauge_.set(0);
}

void Pump::try_now() {
    lane_.try_now(moment());
    changed_.notify_all();
    go_on();
}

}  // namespace opsrelay::forward
