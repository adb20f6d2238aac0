#include "listen/listener_state.h"

#include <boost/asio/this_coro.hpp>

#include "core/assert.h"

namespace opsrelay::listen {

asio::awaitable<void> RoomWatch::run() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        if (!waited_for_) {
            co_await wanted_.wait();
            continue;
        }
        if (!inlet_.has_room()) co_await inlet_.wait_for_room();
        waited_for_ = false;
        changed_.notify_all();
    }
}

asio::awaitable<void> RoomWatch::wait() {
    if (!waited_for_) {
        waited_for_ = true;
        wanted_.notify_all();
    }
    return changed_.wait();
}

ListenerCounts::ListenerCounts(observe::Registry& registry, const std::string& label)
    : received_metric(registry.counter(observe::kListenerReceived, label)),
      kernel_drops_metric(registry.counter(observe::kKernelDrops, label)),
      refused_metric(registry.counter(observe::kConnectionsRefused, label)),
      peers_refused_metric(registry.counter(observe::kPeersRefused, label)) {}

std::span<const Offered> Burst::offer() {
    auto& messages = state_.burst;
    if (messages.empty()) return {};
    const auto offered = state_.inlet.offer(messages, origin_.value_or(state_.origin));
    OPSRELAY_ASSERT(offered.size() == messages.size());
    state_.counts.add_received(messages.size());
    messages.clear();
    return offered;
}

}  // namespace opsrelay::listen
