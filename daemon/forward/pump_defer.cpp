// Records that upstream fails on while it takes others: they leave the queue, and are tried again,
// one at a time and ever more rarely, until they have an outcome.
#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "core/assert.h"
#include "forward/pump.h"

namespace opsrelay::forward {

namespace {

// The calendar may be put back or forward meanwhile.
constexpr milliseconds kDeferredLook = minutes{1};

Item to_item(LaneId lane, spool::DeferredRecord record) {
    auto own = std::make_shared<spool::RecordBatch>();
    own->lane = lane;
    own->first_seq = record.seq;
    own->received_unix_ms = record.received_unix_ms;
    own->payload = std::move(record.payload) + '\n';
    own->offsets = {0, static_cast<std::uint32_t>(own->payload.size())};
    Item item;
    item.seq = record.seq;
    item.failures = record.failures;
    item.company_max = 1;
    item.received_unix_ms = record.received_unix_ms;
    item.payload = own->record(0);
    item.segment = std::move(own);
    item.deferred = true;
    return item;
}

}  // namespace

void Pump::defer(Item item, milliseconds delay, Moment at) {
    // Those of probes, while the others failed as well, are not its own.
    if (!item.deferred) item.failures = kStuckFailures;
    const auto wait = std::max(deferral(item.failures, rng_), delay);
    spool::Settlement end{.seq = item.seq, .delivered = false, .dead = {}};
    end.was_deferred = item.deferred;
    auto& later = end.later.emplace();
    later.due_unix_ms = unix_ms(at.wall + wait);
    later.received_unix_ms = item.received_unix_ms;
    later.failures = item.failures;
    later.payload = item.payload;
    ends_.push_back(std::move(end));
    if (item.deferred) {
        if (!draining_) deferred_gap_ = at.now + kStuckGap;
        log_deferred(item, wait);
    } else {
        const auto seq = item.seq;
        moving_.emplace(seq, Moving{std::move(item), at.now + delay, wait});
    }
}

void Pump::note_moved(std::vector<Seq>& settled, const spool::Settler::Settled& result) {
    note_deferred(result.deferred);
    const std::set<Seq> kept(result.kept.begin(), result.kept.end());
    std::erase_if(settled, [&kept](Seq seq) { return kept.contains(seq); });
    for (const auto seq : kept) {
        auto moving = moving_.extract(seq);
        OPSRELAY_ASSERT(!moving.empty());
        log_stuck(moving.mapped().item);
        batcher_.put_back(std::move(moving.mapped().item), moving.mapped().due);
    }
    for (const auto seq : settled) {
        if (moving_.empty()) break;  // as nearly always
        const auto moved = moving_.extract(seq);
        if (!moved.empty()) log_deferred(moved.mapped().item, moved.mapped().wait);
    }
}

void Pump::note_deferred(const spool::DeferredView& view) {
    const bool same =
        view.records == deferred_.records && view.next_due_unix_ms == deferred_.next_due_unix_ms;
    deferred_ = view;
    if (!same) deferrable_.notify_all();  // after nearly every settlement it is the same
}

TimePoint Pump::deferred_due() const {
    if (!deferred_.next_due_unix_ms) return TimePoint::max();
    const milliseconds left{*deferred_.next_due_unix_ms - unix_ms(clock_.wall_now())};
    return clock_.now() + std::clamp(left, milliseconds{0}, kDeferredLook);
}

TimePoint Pump::next_deferred() const {
    return trying_ ? TimePoint::max() : std::max(deferred_due(), deferred_gap_);
}

asio::awaitable<void> Pump::defer_loop() {
    while (!stopping_) {
        const auto at = next_deferred();
        if (clock_.now() < at) {
            co_await deferrable_.wait_until(at);
            if (clock_.now() < at) continue;  // something changed
        }
        auto taken = co_await settler_.take_due(name_.lane, unix_ms(clock_.wall_now()));
        if (!taken) {
            const auto due = clock_.now() + read_backoff_.next();
            log_read_failure(taken.error(), 0, due);
            deferred_gap_ = due;
            continue;
        }
        deferred_ = taken->deferred;
        if (!taken->record) continue;  // somebody ended it, or it was only looked after
        trying_ = taken->record->seq;
        due_ = to_item(name_.lane, std::move(*taken->record));
        go_on();
    }
}

std::optional<Item> Pump::take_deferred() { return std::exchange(due_, std::nullopt); }

asio::awaitable<void> Pump::hasten_deferred() {
    const auto view = co_await settler_.hasten(name_.lane, unix_ms(clock_.wall_now()));
    deferred_gap_ = {};
    deferrable_.notify_all();  // even if they were due before
    note_deferred(view);
}

asio::awaitable<void> Pump::expire_deferred() {
    if (max_age_.count() == 0 || deferred_.records == 0) co_return;
    const auto oldest = unix_ms(clock_.wall_now() - max_age_);
    std::optional<Seq> let_go;
    if (due_ && due_->received_unix_ms < oldest) {
        let_go = std::exchange(trying_, std::nullopt);
        due_.reset();
    }
    const auto dropped = co_await settler_.expire_deferred(name_.lane, oldest, let_go);
    note_deferred(dropped.deferred);
    if (dropped.records > 0) log_drop(DropReason::expired, dropped.records);
}

}  // namespace opsrelay::forward
