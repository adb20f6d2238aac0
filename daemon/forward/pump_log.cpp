// What the pump logs. Everything that can repeat goes through a throttle.
#include "forward/pump.h"

#include <utility>

namespace opsrelay::forward {

namespace {

log::Level level_of(LaneState state) {
    switch (state) {
        case LaneState::active: return log::Level::info;
        case LaneState::backing_off:
        case LaneState::throttled:
        case LaneState::plan_limited:
        case LaneState::budget_stopped:
        case LaneState::paused: return log::Level::warn;
        case LaneState::unauthorized:
        case LaneState::misconfigured:
        case LaneState::no_key:
        case LaneState::dead_full: return log::Level::error;
    }
    return log::Level::warn;
}

std::int64_t ms_until(std::optional<TimePoint> due, TimePoint now) {
    if (!due || *due == TimePoint::max() || *due < now) return 0;
    return std::chrono::ceil<milliseconds>(*due - now).count();
}

}  // namespace

void Pump::log_state() {
    const auto state = lane_.state();
    if (state == logged_) return;
    const auto hidden = change_throttle_.allow(to_string(state));
    if (!hidden) return;
    const auto from = std::exchange(logged_, state);
    log::write(level_of(state), "forward", "lane state",
               {{"lane", name_.name},
                {"state", to_string(state)},
                {"was", to_string(from)},
                {"cause", lane_.cause()},
                {"retry_in_ms", ms_until(lane_.retry_at(), clock_.now())},
                {"next", what_next(state, name_.name)},
                {"suppressed", *hidden}});
}

void Pump::log_failure(Verdict verdict) {
    const auto hidden = outage_throttle_.allow(to_string(verdict));
    if (!hidden) return;
    log::warn("forward", "request failed; the event stays spooled",
              {{"lane", name_.name},
               {"reason", to_string(verdict)},
               {"error", last_error_},
               {"state", to_string(lane_.state())},
               {"retry_in_ms", ms_until(lane_.retry_at(), clock_.now())},
               {"suppressed", *hidden}});
}

void Pump::log_pipelining(const Pipelining& now, unsigned was) {
    const bool lowered = now.depth < was;
    const auto hidden = outage_throttle_.allow(lowered ? "pipelining" : "pipelining_again");
    if (!hidden) return;
    if (!lowered) {
        log::info(
            "forward", "requests are pipelined again",
            {{"lane", name_.name}, {"was", was}, {"now", now.depth}, {"suppressed", *hidden}});
        return;
    }
    log::warn("forward", "requests are not pipelined for a while; each waits for the one before",
              {{"lane", name_.name},
               {"was", was},
               {"now", now.depth},
               {"cause", now.cause},
               {"retry_in_ms", ms_until(now.retry_at, clock_.now())},
               {"next", "if it goes on, set upstream.pipeline to 1: a proxy may not bear it"},
               {"suppressed", *hidden}});
}

void Pump::log_drop(DropReason reason, std::uint64_t records) {
    const auto hidden = outage_throttle_.allow(to_string(reason));
    if (!hidden) return;
    const bool expired = reason == DropReason::expired;
    log::error("forward", expired ? "old events are given up" : "the oldest events are given up",
               {{"lane", name_.name},
                {"events", records},
                {"cause", expired ? "spool.max_age" : "the spool is full, spool.on_full"},
                {"next", "opsrelay_events_dropped_total counts all of them"},
                {"suppressed", *hidden}});
}

void Pump::log_rejection(Seq seq, const Reply& reply) {
    const auto hidden = outage_throttle_.allow("rejected_event");
    if (!hidden) return;
    log::error(
        "forward", "upstream refused an event for good; it is kept as a dead letter",
        {{"lane", name_.name}, {"seq", seq}, {"status", reply.status}, {"suppressed", *hidden}});
}

void Pump::log_no_key() {
    log::error("forward", "lane state",
               {{"lane", name_.name},
                {"state", to_string(LaneState::no_key)},
                {"cause", lane_.cause()},
                {"next", what_next(LaneState::no_key, name_.name)}});
}

void Pump::log_read_failure(const Error& error, Seq from, TimePoint due) {
    const auto hidden = outage_throttle_.allow("read");
    if (!hidden) return;
    log::error("forward", "spool could not be read; trying again",
               {{"lane", name_.name},
                {"error", error.context},
                {"from_seq", from},
                {"retry_in_ms", ms_until(due, clock_.now())},
                {"suppressed", *hidden}});
}

void Pump::log_put_back_failure(const Error& error, std::size_t events) {
    const auto hidden = outage_throttle_.allow(finishing_ ? "put_back_given_up" : "put_back");
    if (!hidden) return;
    log::error("forward",
               finishing_ ? "refused events could not be put back; they stay dead letters"
                          : "refused events could not be put back; trying again",
               {{"lane", name_.name},
                {"error", error.context},
                {"events", events},
                {"retry_in_ms", finishing_ ? 0 : ms_until(put_back_due_, clock_.now())},
                {"suppressed", *hidden}});
}

void Pump::log_put_back(std::uint64_t events) {
    const auto hidden = outage_throttle_.allow("put_back_done");
    if (!hidden) return;
    log::warn("forward", "events refused in a row are back in the spool: upstream refuses all",
              {{"lane", name_.name}, {"events", events}, {"suppressed", *hidden}});
}

void Pump::log_stall(nanoseconds stalled) {
    const auto hidden = outage_throttle_.allow("stall");
    if (!hidden) return;
    log::warn("forward",
              "nothing was delivered although upstream should take events; "
              "connections are built anew",
              {{"lane", name_.name},
               {"stalled_ms", std::chrono::duration_cast<milliseconds>(stalled).count()},
               {"events", batcher_.unsettled()},
               {"in_flight", lane_.in_flight()},
               {"suppressed", *hidden}});
}

void Pump::log_storage_lag() {
    const auto hidden = outage_throttle_.allow("storage_lag");
    if (!hidden) return;
    log::warn("forward", "spool does not store what was delivered; nothing is sent until it does",
              {{"lane", name_.name},
               {"events", unpersisted_},
               {"retry_in_ms", ms_until(persist_due_, clock_.now())},
               {"suppressed", *hidden}});
}

void Pump::log_stuck(const Item& item) {
    const auto hidden = outage_throttle_.allow("stuck");
    if (!hidden) return;
    log::warn("forward",
              "upstream fails on an event again and again but takes others; there is no room to "
              "defer it, so it is retried where it is",
              {{"lane", name_.name},
               {"seq", item.seq},
               {"failures", item.failures},
               {"error", last_error_},
               {"stuck_events", batcher_.stuck()},
               {"suppressed", *hidden}});
}

void Pump::log_deferred(const Item& item, milliseconds wait) {
    const auto hidden = outage_throttle_.allow("deferred");
    if (!hidden) return;
    log::warn("forward",
              "upstream fails on an event again and again but takes others; it is deferred",
              {{"lane", name_.name},
               {"seq", item.seq},
               {"failures", item.failures},
               {"error", last_error_},
               {"retry_in_ms", wait.count()},
               {"deferred_events", deferred_.records},
               {"suppressed", *hidden}});
}

void Pump::log_split(const Reply& reply, std::size_t events, Bytes bytes) {
    const auto hidden = outage_throttle_.allow("split");
    if (!hidden) return;
    log::warn("forward", "upstream refused a batch as a whole; its halves are sent by themselves",
              {{"lane", name_.name},
               {"status", reply.status},
               {"events", events},
               {"bytes", bytes.count},
               {"suppressed", *hidden}});
}

void Pump::log_held_up() {
    const auto hidden = outage_throttle_.allow("held_up");
    if (!hidden) return;
    log::error("forward",
               "events that upstream fails on again and again hold up all others; "
               "upstream must take or refuse the oldest one",
               {{"lane", name_.name},
                {"stuck_events", batcher_.stuck()},
                {"oldest_seq", batcher_.oldest_unsettled().value_or(0)},
                {"error", last_error_},
                {"suppressed", *hidden}});
}

void Pump::log_concurrency(Concurrency::Change change, std::size_t before) {
    const auto hidden = outage_throttle_.allow("concurrency");
    if (!hidden) return;
    log::info("forward", "fewer requests at a time",
              {{"lane", name_.name},
               {"was", before},
               {"now", concurrency_.limit()},
               {"cause", change == Concurrency::Change::slow ? "replies take longer"
                                                             : "upstream refused or gave no reply"},
               {"next", "one more after each round of replies without a cause"},
               {"suppressed", *hidden}});
}

}  // namespace opsrelay::forward
