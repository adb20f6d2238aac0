// What the parts of one listener share: the seam behind it, its counters, and how it is stopping.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/plan_state.h"
#include "core/signal.h"
#include "core/units.h"
#include "listen/connection_budget.h"
#include "listen/inlet.h"
#include "listen/input_room.h"
#include "listen/options.h"
#include "listen/peer.h"
#include "listen/rate_limiter.h"
#include "listen/token_file.h"
#include "observe/metrics.h"

namespace opsrelay::listen {

/// Has upstream asked for its workspace-status unless what it said is fresh, and returns at `due`
/// at the latest.
using RefreshWorkspace = std::function<asio::awaitable<void>(LaneId lane, TimePoint due)>;

/// Tells every waiting stream at once that there may be room: one coroutine waits at the inlet, the
/// streams wait here, where a session that must end can be woken too. Thread: ingest.
class RoomWatch {
public:
    RoomWatch(asio::any_io_executor ingest, Inlet& inlet, Clock& clock)
        : inlet_(inlet), wanted_(ingest, clock), changed_(ingest, clock) {}

    /// Runs until cancelled.
    [[nodiscard]] asio::awaitable<void> run();
    /// Ends when there may be room, on wake_all(), or when the caller is cancelled.
    [[nodiscard]] asio::awaitable<void> wait();
    void wake_all() { changed_.notify_all(); }

private:
    Inlet& inlet_;
    Signal wanted_;
    Signal changed_;
    bool waited_for_ = false;
};

/// Counters of one listener. Written by ingest, read by any thread.
struct ListenerCounts {
    ListenerCounts(observe::Registry& registry, const std::string& label);

    void add_received(std::uint64_t messages) noexcept {
        received.fetch_add(messages, std::memory_order_relaxed);
        received_metric.add(messages);
    }
    void add_kernel_drops(std::uint64_t datagrams) noexcept {
        kernel_drops.fetch_add(datagrams, std::memory_order_relaxed);
        kernel_drops_metric.add(datagrams);
    }

    std::atomic<std::uint64_t> received{0};
    std::atomic<std::uint64_t> kernel_drops{0};
    observe::Counter& received_metric;
    observe::Counter& kernel_drops_metric;
    observe::Counter& refused_metric;
    observe::Counter& peers_refused_metric;
};

/// Everything a source or session of one listener works with. Outlives them. Thread: ingest.
struct ListenerState {
    const Options& options;
    Inlet& inlet;
    Clock& clock;
    RoomWatch& room;
    ConnectionBudget& connections;  // shared with the other listeners
    InputRoom& input_room;          // the same
    Origin origin;
    PlanStates& plans;
    RefreshWorkspace refresh_workspace;  // may be empty
    AccessList access;
    RateLimiter limiter;
    std::optional<TokenSet> tokens;  // one of which a request must have
    ListenerCounts counts;
    std::string address;
    bool inherited = false;        // the parent's socket: it goes on when this process ends
    bool stopping = false;         // finish what was received, begin nothing new
    Bytes batch_bytes{};           // of HTTP batches that are being received or unpacked
    std::vector<Message> burst{};  // Burst's, empty across every wait: all sessions share it
};

/// Collects messages and hands them to the inlet in bounded bursts; adds and offers without a wait
/// between. Thread: ingest.
class Burst {
public:
    /// Bounds the inlet's result, which lives until the next burst.
    static constexpr std::size_t kMessagesMax = 256;

    explicit Burst(ListenerState& state) noexcept : state_(state) {}
    /// Of events that go to another lane than the listener's.
    Burst(ListenerState& state, const Origin& origin) noexcept : state_(state), origin_(origin) {}

    [[nodiscard]] bool full() const noexcept { return state_.burst.size() >= kMessagesMax; }
    void add(const Message& message) { state_.burst.push_back(message); }
    /// Offers what was collected and starts anew. Valid until the next offer to the same inlet.
    [[nodiscard]] std::span<const Offered> offer();

private:
    ListenerState& state_;
    std::optional<Origin> origin_;
};

}  // namespace opsrelay::listen
