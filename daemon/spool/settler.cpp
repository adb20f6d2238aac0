#include "spool/settler.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <tuple>
#include <utility>

#include "core/assert.h"
#include "core/run_on.h"
#include "spool/dead_letter.h"
#include "spool/deferred.h"
#include "spool/keys.h"

namespace opsrelay::spool {

Settler::Settler(asio::any_io_executor storage, Store& store, observe::StorageTotals& totals)
    : storage_(std::move(storage)), store_(store), totals_(totals) {}

LaneStart Settler::start_of(LaneId lane) const {
    const auto found = lanes_.find(lane);
    if (found == lanes_.end()) return {};
    const auto& known = found->second;
    return {known.next, known.paused, known.deferred.view(), known.memo};
}

Result<LaneId> Settler::make_lane(std::string_view name) {
    auto made = store_.make_lane(name);
    if (made) lanes_.try_emplace(*made);
    return made;
}

Result<void> Settler::set_paused(LaneId lane, bool paused) {
    auto done = store_.set_paused(lane, paused);
    if (done) lanes_[lane].paused = paused;
    return done;
}

Seq Settler::end(LaneId lane) const {
    const auto found = lanes_.find(lane);
    return found == lanes_.end() ? 1 : found->second.next_write;
}

void Settler::hasten_here(LaneId lane, std::int64_t now_unix_ms) {
    lanes_[lane].deferred.hasten(now_unix_ms);
}

Settler::Left Settler::left_below(LaneId id, Seq end) const {
    const auto found = lanes_.find(id);
    if (found == lanes_.end()) return {};
    const auto& lane = found->second;
    end = std::min(end, lane.next_write);
    const auto deferred = lane.deferred.below(end);
    if (end <= lane.next) return {deferred.records, deferred.resting};
    const auto settled = std::distance(lane.ahead.begin(), lane.ahead.lower_bound(end));
    const auto queued = end - lane.next - static_cast<std::uint64_t>(settled);
    return {queued + deferred.records, deferred.resting};
}

DeferredView Settler::deferred(LaneId lane) const {
    const auto found = lanes_.find(lane);
    return found == lanes_.end() ? DeferredView{} : found->second.deferred.view();
}

asio::awaitable<Result<RecordBatch>> Settler::read(LaneId lane, Seq from) {
    // Result<> has no default constructor, which run_on needs: carried in an optional.
    auto job = [this, lane, from] {
        std::optional<Result<RecordBatch>> batch = store_.read(lane, from);
        if (*batch) take_stock(lane, **batch);
        return batch;
    };
    auto batch = co_await run_on(storage_, std::move(job));
    co_return std::move(*batch);
}

asio::awaitable<Settler::Settled> Settler::settle(LaneId lane, std::vector<Settlement> ends,
                                                  std::optional<std::string> memo) {
    std::vector<Bytes> taken;
    for (const auto& end : ends) {
        if (!end.delivered && !end.later) taken.push_back(stored_bytes(end.dead));
    }
    struct Done {
        Settled settled;
        DeadUsage dead;
    };
    auto job = [this, lane, ends = std::move(ends), memo = std::move(memo), taken]() mutable {
        Done done{settle_here(lane, ends, memo), {}};
        if (!taken.empty()) note_settled_dead(taken);
        done.dead = dead_told_;
        return done;
    };
    auto done = co_await run_on(storage_, std::move(job));
    // In one step: else they would count twice, or not at all, for a moment.
    dead_room_.set(done.dead);
    for (const auto letter : taken) dead_room_.give_back(letter);
    co_return std::move(done.settled);
}

asio::awaitable<Result<Settler::Due>> Settler::take_due(LaneId lane, std::int64_t now_unix_ms) {
    // Result<> has no default constructor, which run_on needs: carried in an optional.
    auto job = [this, lane, now_unix_ms] {
        std::optional<Result<Due>> taken = take_due_here(lane, now_unix_ms);
        return taken;
    };
    auto taken = co_await run_on(storage_, std::move(job));
    co_return std::move(*taken);
}

asio::awaitable<DeferredView> Settler::hasten(LaneId lane, std::int64_t now_unix_ms) {
    auto job = [this, lane, now_unix_ms] {
        hasten_here(lane, now_unix_ms);
        return lanes_[lane].deferred.view();
    };
    co_return co_await run_on(storage_, std::move(job));
}

bool Settler::take_dead_room(const DeadLetter& letter) {
    return dead_room_.take(stored_bytes(letter));
}

void Settler::give_back_dead_room(const DeadLetter& letter) {
    dead_room_.give_back(stored_bytes(letter));
}

asio::awaitable<Settler::Dropped> Settler::drop(LaneId lane, Seq end, std::vector<Seq> kept,
                                                DropReason reason) {
    auto job = [this, lane, end, kept = std::move(kept), reason] {
        return drop_here(lane, 0, end, kept, reason);
    };
    co_return co_await run_on(storage_, std::move(job));
}

asio::awaitable<Settler::Dropped> Settler::expire_deferred(LaneId id, std::int64_t received_unix_ms,
                                                           std::optional<Seq> let_go) {
    auto job = [this, id, received_unix_ms, let_go] {
        auto& lane = lanes_[id];
        if (let_go && lane.deferred.trying() == let_go) lane.deferred.release();
        const auto records = lane.deferred.end_if([received_unix_ms](const DeferredEntry& entry) {
            return entry.received_unix_ms < received_unix_ms;
        });
        return note_dropped(id, lane, records, DropReason::expired);
    };
    co_return co_await run_on(storage_, std::move(job));
}

asio::awaitable<Result<std::uint64_t>> Settler::replay(LaneId lane, std::vector<Seq> dead) {
    auto job = [this, lane, dead = std::move(dead)] {
        std::vector<Revival> letters;
        for (const auto seq : dead) letters.push_back({.key = {DeadKind::upstream, lane, seq}});
        std::optional<Result<std::uint64_t>> replayed = replay_here(lane, letters);
        return replayed;
    };
    auto replayed = co_await run_on(storage_, std::move(job));
    co_return std::move(*replayed);
}

Result<std::uint64_t> Settler::replay_here(LaneId id, std::span<const Revival> letters) {
    auto& lane = lanes_[id];
    // The dead letters to be replayed may not be written yet.
    if (auto written = write_ack(id, lane); !written) return written.error();
    auto replayed = store_.replay(id, letters);
    if (!replayed) return replayed;
    note_synced();
    totals_.replayed += *replayed;
    lane.next_write += *replayed;
    tell_dead_usage();
    return replayed;
}

Result<std::uint64_t> Settler::purge_dead(std::span<const DeadKey> letters) {
    auto purged = store_.purge_dead(letters);
    if (!purged) return purged;
    if (*purged > 0) note_synced();
    tell_dead_usage();
    return purged;
}

Result<std::uint64_t> Settler::purge_lane(LaneId id) {
    const auto found = lanes_.find(id);
    if (found == lanes_.end()) return std::uint64_t{0};
    auto& lane = found->second;
    const auto ended = lane.spooled();
    count_dropped(id, DropReason::purged, ended);
    lane.next = lane.next_write;
    lane.ahead.clear();
    lane.deferred.release();
    lane.deferred.end_if([](const DeferredEntry&) { return true; });
    if (auto written = write_ack(id, lane); !written) return written.error();
    if (auto synced = store_.sync(); !synced) return synced.error();
    note_synced();
    return ended;
}

DeadUsage Settler::dead_usage() const {
    auto usage = store_.dead_usage();
    for (const auto& [id, lane] : lanes_) {
        usage.letters += lane.dead.size();
        for (const auto& letter : lane.dead) usage.bytes += stored_bytes(letter);
    }
    return usage;
}

void Settler::note_settled_dead(const std::vector<Bytes>& letters) {
    auto expected = dead_told_;
    expected.letters += letters.size();
    for (const auto letter : letters) expected.bytes += letter;
    dead_told_ = dead_usage();
    // Letters that came again, after a crash or a reopen, take no further room.
    if (dead_told_ != expected && on_dead_usage_) on_dead_usage_(dead_told_);
}

void Settler::tell_dead_usage() {
    const auto usage = dead_usage();
    if (usage == std::exchange(dead_told_, usage)) return;
    if (on_dead_usage_) on_dead_usage_(usage);
}

void Settler::adopt(bool at_start) {
    for (const auto& stored : store_.lanes()) {
        auto& lane = lanes_[stored.lane];
        if (at_start) {
            OPSRELAY_ASSERT(stored.next_settle <= stored.next_write);
            lane.next = stored.next_settle;
            lane.paused = stored.paused;
            lane.next_write = stored.next_write;
            lane.ahead = {stored.ahead.begin(), stored.ahead.end()};
            lane.memo = stored.memo;
            lane.deferred.adopt(stored.deferred);
            // Damage may have brought the places of deferred records back: the copies count.
            for (const auto& entry : stored.deferred) {
                const bool open = entry.seq >= lane.next && !lane.ahead.contains(entry.seq);
                if (!open) continue;
                settle_place(lane, entry.seq);
                lane.dirty = true;
            }
            totals_.recovered += lane.spooled();
        } else {
            // What memory knows is newer than what the reopened store has.
            lane.dirty = true;
            lane.memo_changed = true;
            std::move(lane.dead_unsynced.begin(), lane.dead_unsynced.end(),
                      std::back_inserter(lane.dead));
            lane.dead_unsynced.clear();
            lane.deferred.note_reopened();
        }
    }
    if (!at_start) return tell_dead_usage();
    dead_told_ = dead_usage();
    dead_room_.set(dead_told_);  // no thread runs yet
}

void Settler::note_committed(LaneId lane, std::uint64_t count) {
    lanes_[lane].next_write += count;
    totals_.accepted += count;
}

void Settler::note_synced() {
    for (auto& [id, lane] : lanes_) {
        lane.unsynced = false;
        lane.dead_unsynced.clear();
        lane.deferred.note_synced();
    }
}

Result<void> Settler::flush_idle() {
    Result<void> flushed;
    bool unsynced = false;
    for (auto& [id, lane] : lanes_) {
        if (lane.dirty) {
            auto written = write_ack(id, lane);
            if (!written && flushed) flushed = std::move(written);
        }
        unsynced = unsynced || lane.unsynced;
    }
    tell_dead_usage();  // the limits may be others
    if (!unsynced) return flushed;
    auto synced = store_.sync();
    if (synced) {
        note_synced();
    } else if (flushed || synced.error().code == Errc::spool_reopen) {
        flushed = std::move(synced);
    }
    return flushed;
}

std::uint64_t Settler::spooled() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& [id, lane] : lanes_) sum += lane.spooled();
    return sum;
}

std::uint64_t Settler::spooled(LaneId lane) const {
    const auto found = lanes_.find(lane);
    return found == lanes_.end() ? 0 : found->second.spooled();
}

void Settler::settle_place(Lane& lane, Seq seq) {
    OPSRELAY_ASSERT(seq >= lane.next);
    OPSRELAY_ASSERT(seq < lane.next_write);
    if (seq == lane.next) {  // as nearly always: never in the set
        ++lane.next;
        advance(lane);
        return;
    }
    const bool first_time = lane.ahead.insert(seq).second;
    OPSRELAY_ASSERT(first_time);
}

bool Settler::defer(Lane& lane, Settlement& end) {
    if (!end.was_deferred) {
        const auto limits = store_.deferred_limits();
        std::uint64_t records = 1;
        auto bytes = deferred_bytes(*end.later);
        for (const auto& [id, other] : lanes_) {
            records += other.deferred.size();
            bytes += other.deferred.bytes();
        }
        // What the store does not take at the moment must not pile up in memory.
        if (lane.dirty || records > limits.records_max || bytes > limits.bytes_max) return false;
        settle_place(lane, end.seq);
    } else if (!lane.deferred.contains(end.seq)) {
        return true;  // given up meanwhile
    }
    end.later->seq = end.seq;
    lane.deferred.put(std::move(*end.later));
    return true;
}

Settler::Settled Settler::settle_here(LaneId id, std::vector<Settlement>& ends,
                                      std::optional<std::string>& memo) {
    auto& lane = lanes_[id];
    if (memo && *memo != lane.memo) {
        lane.memo = std::move(*memo);
        lane.memo_changed = true;
    }
    Settled result;
    for (auto& end : ends) {
        if (end.later) {
            if (!defer(lane, end)) result.kept.push_back(end.seq);
            continue;
        }
        if (!end.was_deferred) {
            settle_place(lane, end.seq);
        } else if (!lane.deferred.end(end.seq)) {
            continue;  // given up meanwhile, and counted
        }
        if (end.delivered) {
            ++totals_.delivered;
            continue;
        }
        ++totals_.dead;
        end.dead.kind = DeadKind::upstream;
        end.dead.lane = id;
        end.dead.seq = end.seq;
        lane.dead.push_back(std::move(end.dead));
    }
    // What is refused is kept, and tried again with the next one.
    const bool ended = result.kept.size() < ends.size();
    if (ended || lane.memo_changed || lane.dirty) std::ignore = write_ack(id, lane);
    result.persisted = !lane.dirty;
    result.deferred = lane.deferred.view();
    return result;
}

Result<Settler::Due> Settler::take_due_here(LaneId id, std::int64_t now_unix_ms) {
    auto& lane = lanes_[id];
    lane.deferred.release();
    Due taken;
    while (const auto seq = lane.deferred.due(now_unix_ms)) {
        const auto* const unwritten = lane.deferred.unwritten(*seq);
        auto record = unwritten != nullptr ? Result<std::optional<DeferredRecord>>(*unwritten)
                                           : store_.read_deferred(id, *seq);
        if (!record) return record.error();
        if (*record) {
            lane.deferred.begin_try(*seq);
            taken.record = std::move(*record);
            break;
        }
        const bool known = lane.deferred.end(*seq);
        OPSRELAY_ASSERT(known);
        std::ignore = note_dropped(id, lane, 1, DropReason::corrupt);
    }
    taken.deferred = lane.deferred.view();
    return taken;
}

Settler::Dropped Settler::drop_here(LaneId id, Seq first, Seq end, const std::vector<Seq>& kept,
                                    DropReason reason) {
    auto& lane = lanes_[id];
    end = std::min(end, lane.next_write);
    const auto before = lane.spooled();
    // The usual place is the front, and there may be much of it: the cursor jumps.
    const auto jump = kept.empty() ? end : std::min(end, kept.front());
    if (first <= lane.next && lane.next < jump) {
        lane.ahead.erase(lane.ahead.begin(), lane.ahead.lower_bound(jump));
        lane.next = jump;
    }
    for (auto seq = std::max(first, lane.next); seq < end; ++seq) {
        if (!std::binary_search(kept.begin(), kept.end(), seq)) lane.ahead.insert(seq);
    }
    advance(lane);
    if (reason != DropReason::corrupt) {
        lane.deferred.end_if([end](const DeferredEntry& entry) { return entry.seq < end; });
    }
    return note_dropped(id, lane, before - lane.spooled(), reason);
}

Settler::Dropped Settler::note_dropped(LaneId id, Lane& lane, std::uint64_t records,
                                       DropReason reason) {
    count_dropped(id, reason, records);
    // What is refused is kept, and tried again with the next one.
    if (records > 0 || lane.dirty) std::ignore = write_ack(id, lane);
    return {records, !lane.dirty, lane.deferred.view()};
}

void Settler::count_dropped(LaneId lane, DropReason reason, std::uint64_t records) {
    totals_.dropped[index_of(reason)] += records;
    if (records == 0 || tap_ == nullptr || !tap_->wants(observe::Sight::dropped)) return;
    tap_->see({observe::Sight::dropped, lane, std::string(to_string(reason)), records, {}});
}

void Settler::note_unread(LaneId lane) { lanes_[lane].deferred.release(); }

void Settler::drop_unread(LaneId lane, Seq end, DropReason reason) {
    std::ignore = drop_here(lane, 0, end, {}, reason);
}

std::optional<Seq> Settler::oldest_part(LaneId id) const {
    const auto found = lanes_.find(id);
    if (found == lanes_.end()) return std::nullopt;
    const auto& lane = found->second;
    if (lane.spooled() == lane.deferred.size()) return std::nullopt;
    return lane.next + (lane.next_write - lane.next + 7) / 8;
}

std::vector<LaneId> Settler::lanes() const {
    std::vector<LaneId> all;
    for (const auto& [id, lane] : lanes_) all.push_back(id);
    return all;
}

void Settler::take_stock(LaneId id, RecordBatch& batch) {
    if (batch.lost > 0) {
        std::ignore =
            drop_here(id, batch.first_seq - batch.lost, batch.first_seq, {}, DropReason::corrupt);
    }
    // The loss above may have moved the cursor past records that were settled ahead of it.
    const auto& lane = lanes_[id];
    if (batch.first_seq >= lane.next && lane.ahead.empty()) return;
    for (std::uint32_t i = 0; i < batch.size(); ++i) {
        const auto seq = batch.first_seq + i;
        if (seq < lane.next || lane.ahead.contains(seq)) batch.settled.push_back(i);
    }
}

void Settler::advance(Lane& lane) {
    auto settled = lane.ahead.begin();
    while (settled != lane.ahead.end() && *settled == lane.next) {
        settled = lane.ahead.erase(settled);
        ++lane.next;
    }
}

Result<void> Settler::write_ack(LaneId id, Lane& lane) {
    // What lies too far ahead for the bitmap is told when the cursor comes near.
    const auto end = lane.ahead.lower_bound(lane.next + 8 * kAheadBytesMax);
    const std::vector<Seq> ahead(lane.ahead.begin(), end);
    const auto deferred = lane.deferred.puts();
    const auto ended = lane.deferred.ends();
    const auto memo = lane.memo_changed ? std::optional<std::string_view>(lane.memo) : std::nullopt;
    auto written = store_.ack({.lane = id,
                               .next = lane.next,
                               .dead = lane.dead,
                               .ahead = ahead,
                               .deferred = deferred,
                               .deferred_ended = ended,
                               .memo = memo});
    lane.dirty = !written;
    if (!written) return written;
    lane.unsynced = true;
    lane.deferred.note_written();
    lane.memo_changed = false;
    if (lane.dead.empty()) return {};
    std::move(lane.dead.begin(), lane.dead.end(), std::back_inserter(lane.dead_unsynced));
    lane.dead.clear();
    return {};
}

}  // namespace opsrelay::spool
