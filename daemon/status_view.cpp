#include "status_view.h"

#include <algorithm>

namespace opsrelay {

namespace {

void show_deferred(const spool::DeferredView& deferred, control::LaneView& shown) {
    shown.deferred = deferred.records;
    shown.deferred_due_unix_ms = deferred.next_due_unix_ms;
}

}  // namespace

control::StatusView status_view(const Snapshot& snapshot,
                                const std::vector<forward::LaneStatus>& lanes,
                                const std::vector<listen::ListenerStatus>& listeners,
                                WallTime now) {
    const auto age_s = [now_ms = unix_ms(now)](std::int64_t since_ms) {
        return since_ms == 0
                   ? 0.0
                   : static_cast<double>(std::max(now_ms - since_ms, std::int64_t{0})) / 1e3;
    };
    control::StatusView view;
    view.ledger = snapshot.ledger;
    for (const auto& lane : lanes) {
        auto& shown = view.lanes.emplace_back();
        shown.name = lane.name;
        shown.state = to_string(lane.state);
        shown.since_unix_ms = unix_ms(lane.since);
        if (lane.retry_at) shown.retry_at_unix_ms = unix_ms(*lane.retry_at);
        const auto spooled = snapshot.spooled_by_lane.find(lane.lane);
        if (spooled != snapshot.spooled_by_lane.end()) shown.spooled = spooled->second;
        shown.concurrency = lane.concurrency;
        const auto deferred = snapshot.deferred_by_lane.find(lane.lane);
        if (deferred != snapshot.deferred_by_lane.end()) show_deferred(deferred->second, shown);
        shown.oldest_age_s = age_s(lane.oldest_received_unix_ms.value_or(0));
        shown.late_day = lane.late.day;
        shown.late_month = lane.late.month;
        shown.last_error = lane.last_error;
        if (lane.state != forward::LaneState::active) {
            shown.next = forward::what_next(lane.state, lane.name);
        }
        view.spool_oldest_age_s = std::max(view.spool_oldest_age_s, shown.oldest_age_s);
    }
    for (const auto& lane : snapshot.unconfigured) {
        auto& shown = view.lanes.emplace_back();
        shown.name = lane.name.name;
        shown.state = "not_configured";
        shown.spooled = lane.spooled;
        show_deferred(lane.deferred, shown);
        shown.next =
            "nothing is sent; configure it again, or end its records with opsrelay spool "
            "purge --lane";
    }
    view.spool_bytes = snapshot.store.disk.count;
    view.damaged = snapshot.store.damaged;
    view.repaired = snapshot.store.repaired;
    view.spool_reserve = snapshot.store.reserve.count;
    view.dead_letters = snapshot.store.dead_letters;
    view.dead_bytes = snapshot.dead.bytes.count;
    view.dead_bytes_limit = snapshot.dead.bytes_max.count;
    view.dedupe_ids = snapshot.ids.held;
    view.dedupe_ids_max = snapshot.ids.max;
    view.dedupe_window_s = static_cast<double>(snapshot.ids.window.count()) / 1e3;
    for (const auto& listener : listeners) {
        view.listeners.push_back({std::string(to_string(listener.kind)), listener.address,
                                  listener.received, listener.kernel_drops, listener.inherited});
    }
    return view;
}

void publish(const control::StatusView& view, observe::Registry& registry) {
    view.ledger.publish(registry);
    registry.gauge(observe::kSpoolBytes).set(static_cast<double>(view.spool_bytes));
    registry.gauge(observe::kSpoolDamaged).set(static_cast<double>(view.damaged.size()));
    registry.gauge(observe::kSpoolReserveBytes).set(static_cast<double>(view.spool_reserve));
    registry.gauge(observe::kSpoolLimitBytes).set(static_cast<double>(view.spool_limit));
    registry.gauge(observe::kSpoolOldestAge).set(view.spool_oldest_age_s);
    registry.gauge(observe::kDeadLetters).set(static_cast<double>(view.dead_letters));
    registry.gauge(observe::kDeadBytes).set(static_cast<double>(view.dead_bytes));
    registry.gauge(observe::kDeadLimitBytes).set(static_cast<double>(view.dead_bytes_limit));
    for (const auto& lane : view.lanes) {
        registry.gauge(observe::kLaneSpooled, lane.name).set(static_cast<double>(lane.spooled));
        registry.gauge(observe::kLaneDeferred, lane.name).set(static_cast<double>(lane.deferred));
        const auto due_ms = static_cast<double>(lane.deferred_due_unix_ms.value_or(0));
        registry.gauge(observe::kLaneDeferredDue, lane.name).set(due_ms / 1e3);
    }
    registry.gauge(observe::kDedupeIds).set(static_cast<double>(view.dedupe_ids));
    registry.gauge(observe::kDedupeWindow).set(view.dedupe_window_s);
    registry.gauge(observe::kBuildInfo, view.version).set(1);
}

}  // namespace opsrelay
