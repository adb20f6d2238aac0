#include "support/mem_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/assert.h"
#include "spool/deferred.h"
#include "spool/disk_plan.h"
#include "spool/keys.h"

namespace opsrelay::test {

using spool::DeadKind;
using spool::DeadLetter;
using spool::RecordBatch;
using spool::Segment;

MemStore::MemStore(std::uint64_t salt, std::vector<LaneId> lanes, spool::DeadLimits dead)
    : salt_(salt), dead_limits_(dead) {
    for (const auto id : lanes) {
        const auto number = static_cast<std::uint16_t>(id);
        live_.lanes[id].name =
            id == kDefaultLane ? LaneName{}.name : fmt::format("lane-{}", number);
    }
    durable_ = live_;
}

MemStore::Lane& MemStore::lane(LaneId id) {
    const auto found = live_.lanes.find(id);
    OPSRELAY_ASSERT(found != live_.lanes.end());
    return found->second;
}

std::optional<MemStore::Failure> MemStore::take_failure(StoreCall call) {
    const bool reads = call == StoreCall::read || call == StoreCall::read_deferred;
    if (refusal_ && !reads && call != StoreCall::reopen) {
        return Failure{call, *refusal_, Landed::no};
    }
    const auto found = std::find_if(failures_.begin(), failures_.end(),
                                    [call](const Failure& f) { return f.call == call; });
    if (found == failures_.end()) return std::nullopt;
    const auto failure = *found;
    failures_.erase(found);
    return failure;
}

Error MemStore::injected(const Failure& failure) {
    if (failure.code == Errc::spool_reopen) needs_reopen_ = true;
    return {failure.code, fmt::format("injected {}", to_string(failure.code))};
}

std::optional<Error> MemStore::refused_write() const {
    OPSRELAY_ASSERT(!closed_);
    if (!needs_reopen_) return std::nullopt;
    return Error{Errc::spool_reopen, "reopen() has not been called"};
}

std::vector<spool::LaneState> MemStore::lanes() const {
    std::vector<spool::LaneState> states;
    for (const auto& [id, lane] : live_.lanes) {
        auto& state = states.emplace_back();
        state.lane = id;
        state.name = lane.name;
        state.next_settle = lane.next_settle;
        state.next_write = lane.next_write;
        state.ahead = lane.ahead;
        state.paused = lane.paused;
        state.memo = lane.memo;
        for (const auto& [seq, record] : lane.deferred) {
            state.deferred.push_back(
                {seq, record.due_unix_ms, record.received_unix_ms, spool::deferred_bytes(record)});
        }
    }
    return states;
}

Result<LaneId> MemStore::make_lane(std::string_view name) {
    for (const auto& [id, lane] : live_.lanes) {
        if (lane.name == name) return id;
    }
    std::uint16_t number = 0;
    while (live_.lanes.contains(LaneId{number})) ++number;
    if (number >= spool::kLaneNumbersMax) return Error{Errc::refused, "no number is free"};
    const LaneId id{number};
    auto made = write(StoreCall::make_lane, [id, name = std::string(name)](State& state) {
        state.lanes[id].name = name;
    });
    if (!made) return made.error();
    return id;
}

Result<void> MemStore::set_paused(LaneId id, bool paused) {
    return write(StoreCall::set_paused,
                 [id, paused](State& state) { state.lanes.at(id).paused = paused; });
}

void MemStore::set_limits(const spool::Options& options) {
    const auto plan = spool::plan_disk(options);
    dead_limits_.admission_bytes = plan.dead_admission;
    dead_limits_.upstream_bytes = plan.dead;
}

Result<void> MemStore::write(StoreCall call, const Change& change) {
    if (auto refused = refused_write()) return *refused;
    undo_replays();
    if (const auto failure = take_failure(call)) {
        if (failure->landed == Landed::yes) {
            make_durable();
            change(durable_);
        }
        return injected(*failure);
    }
    apply_durably(change);
    return {};
}

// The numbers are fixed when the change is made, so that a retry writes the same keys.
MemStore::Change MemStore::commit_change(std::span<const Segment> segments,
                                         std::span<const DeadLetter> rejected) const {
    struct Put {
        LaneId lane;
        Seq first;
        std::shared_ptr<const Segment> segment;
    };
    std::vector<Put> puts;
    std::set<LaneId> written;
    for (const auto& segment : segments) {
        OPSRELAY_ASSERT(segment.ids.size() == segment.count);
        const bool only_one = written.insert(segment.lane).second;
        OPSRELAY_ASSERT(only_one);
        const auto first = live_.lanes.at(segment.lane).next_write;
        puts.push_back({segment.lane, first, std::make_shared<const Segment>(segment)});
    }
    std::map<LaneId, Seq> ends;  // lanes whose failed commit was given up
    for (const auto id : commits_in_doubt_) {
        if (!written.contains(id)) ends[id] = live_.lanes.at(id).next_write;
    }
    std::vector<DeadLetter> letters(rejected.begin(), rejected.end());
    const auto entry = live_.next_entry;
    const auto number = live_.next_admission;
    return [this, puts, ends, letters, entry, number](State& state) {
        state.next_entry = entry;
        for (const auto& put : puts) {
            auto& lane = state.lanes.at(put.lane);
            lane.segments[put.first] = {put.segment, false};
            lane.next_write = put.first + put.segment->count;
            state.id_log[state.next_entry++] = {put.segment->ids, put.segment->id_clock_ms};
        }
        for (const auto& [id, end] : ends) {
            state.lanes.at(id).segments.erase(end);
            state.lanes.at(id).next_write = end;
        }
        state.next_admission = number;
        for (auto letter : letters) {
            letter.kind = DeadKind::admission;
            letter.seq = state.next_admission++;
            state.letters[key_of(letter)] = letter;
        }
        evict_admission(state);
    };
}

void MemStore::make_durable() {
    for (const auto& change : unsynced_) change(durable_);
    unsynced_.clear();
}

void MemStore::apply_durably(const Change& change) {
    make_durable();
    change(durable_);
    change(live_);
}

void MemStore::undo_replays() {
    if (replays_in_doubt_.empty()) return;
    apply_durably([this, doubts = replays_in_doubt_](State& state) {
        for (const auto& [id, doubt] : doubts) {
            for (const auto key : doubt.keys) state.lanes.at(id).segments.erase(key);
            state.lanes.at(id).next_write = live_.lanes.at(id).next_write;
            for (const auto& letter : doubt.letters) state.letters[key_of(letter)] = letter;
        }
    });
    replays_in_doubt_.clear();
}

Result<void> MemStore::commit(std::span<const Segment> segments,
                              std::span<const DeadLetter> rejected) {
    if (auto refused = refused_write()) return *refused;
    if (segments.empty() && rejected.empty()) return {};
    undo_replays();
    const auto change = commit_change(segments, rejected);
    if (const auto failure = take_failure(StoreCall::commit)) {
        for (const auto& segment : segments) commits_in_doubt_.insert(segment.lane);
        if (failure->landed == Landed::yes) {
            make_durable();
            change(durable_);
        }
        return injected(*failure);
    }
    apply_durably(change);
    commits_in_doubt_.clear();
    ++commits_;
    for (const auto& segment : segments) committed_ += Bytes{segment.payload.size()};
    return {};
}

Result<RecordBatch> MemStore::read(LaneId id, Seq from) {
    OPSRELAY_ASSERT(!closed_);
    ++reads_[id];
    if (const auto failure = take_failure(StoreCall::read)) return injected(*failure);
    const auto& lane = this->lane(id);
    from = std::max(from, lane.next_settle);
    RecordBatch batch;
    batch.lane = id;
    batch.first_seq = lane.next_write;
    if (from >= lane.next_write) return batch;
    for (const auto& [first, stored] : lane.segments) {
        const auto end = first + stored.segment->count;
        if (first >= lane.next_write) break;
        if (end <= from || stored.damaged) continue;
        batch.first_seq = std::max(first, from);
        batch.received_unix_ms = stored.segment->received_unix_ms;
        std::size_t at = 0;
        const std::string& payload = stored.segment->payload;
        for (auto seq = first; seq < batch.first_seq; ++seq) at = payload.find('\n', at) + 1;
        batch.payload = payload.substr(at);
        batch.offsets.push_back(0);
        for (std::size_t i = 0; i < batch.payload.size(); ++i) {
            if (batch.payload[i] == '\n')
                batch.offsets.push_back(static_cast<std::uint32_t>(i + 1));
        }
        break;
    }
    batch.lost = batch.first_seq - from;
    return batch;
}

Result<void> MemStore::ack(const spool::Ack& ack) {
    ++acks_;
    if (auto refused = refused_write()) return *refused;
    const auto& lane = this->lane(ack.lane);
    OPSRELAY_ASSERT(ack.next <= lane.next_write);
    const auto next_settle = std::max(ack.next, lane.next_settle);
    std::vector<Seq> ahead;
    for (const auto seq : ack.ahead) {
        if (seq >= next_settle) ahead.push_back(seq);
    }
    const bool defers = !ack.deferred.empty() || !ack.deferred_ended.empty();
    const bool moves = ack.next > lane.next_settle;
    const bool says_more = moves || defers || ack.memo.has_value() || !ack.dead.empty();
    if (!says_more && ahead == lane.ahead) return {};
    if (const auto failure = take_failure(StoreCall::ack)) return injected(*failure);
    const std::vector<DeadLetter> dead(ack.dead.begin(), ack.dead.end());
    const std::vector<spool::DeferredRecord> deferred(ack.deferred.begin(), ack.deferred.end());
    const std::vector<Seq> ended(ack.deferred_ended.begin(), ack.deferred_ended.end());
    std::optional<std::string> memo;
    if (ack.memo) memo = std::string(*ack.memo);
    const Change change = [id = ack.lane, next_settle, ahead, dead, deferred, ended,
                           memo](State& state) {
        auto& changed = state.lanes.at(id);
        changed.next_settle = next_settle;
        changed.ahead = ahead;
        auto& segments = changed.segments;
        while (!segments.empty() &&
               segments.begin()->first + segments.begin()->second.segment->count <=
                   changed.next_settle) {
            segments.erase(segments.begin());
        }
        for (auto letter : dead) {
            letter.kind = DeadKind::upstream;
            letter.lane = id;
            state.letters[key_of(letter)] = letter;
        }
        for (const auto& record : deferred) changed.deferred[record.seq] = record;
        for (const auto seq : ended) changed.deferred.erase(seq);
        if (memo) changed.memo = *memo;
    };
    change(live_);
    unsynced_.push_back(change);
    return {};
}

Result<std::optional<spool::DeferredRecord>> MemStore::read_deferred(LaneId id, Seq seq) {
    OPSRELAY_ASSERT(!closed_);
    if (const auto failure = take_failure(StoreCall::read_deferred)) return injected(*failure);
    const auto& deferred = lane(id).deferred;
    const auto found = deferred.find(seq);
    if (found == deferred.end() || damaged_deferred_.contains({id, seq})) {
        return std::optional<spool::DeferredRecord>{};
    }
    return std::optional<spool::DeferredRecord>{found->second};
}

bool MemStore::damage_deferred(LaneId id, Seq seq) {
    if (!lane(id).deferred.contains(seq)) return false;
    damaged_deferred_.emplace(id, seq);
    return true;
}

std::vector<spool::DeferredRecord> MemStore::deferred(LaneId id) const {
    std::vector<spool::DeferredRecord> all;
    for (const auto& [seq, record] : live_.lanes.at(id).deferred) all.push_back(record);
    return all;
}

Result<void> MemStore::sync() {
    if (auto refused = refused_write()) return *refused;
    if (const auto failure = take_failure(StoreCall::sync)) return injected(*failure);
    make_durable();
    return {};
}

// The process lives on: what it wrote is in the page cache, and what was confirmed keeps its
// numbers.
Result<void> MemStore::reopen() {
    OPSRELAY_ASSERT(!closed_);
    if (const auto failure = take_failure(StoreCall::reopen)) return injected(*failure);
    make_durable();
    const auto before = std::move(live_);
    live_ = durable_;
    for (const auto& [id, lane] : before.lanes) live_.lanes[id].next_write = lane.next_write;
    live_.next_entry = before.next_entry;
    needs_reopen_ = false;
    undo_replays();
    return {};
}

spool::StoreStats MemStore::stats() {
    spool::StoreStats stats;
    for (const auto& [id, lane] : live_.lanes) {
        for (const auto& [first, stored] : lane.segments) {
            stats.disk += Bytes{stored.segment->payload.size()};
        }
    }
    for (const auto& [id, lane] : live_.lanes) {
        for (const auto& [seq, record] : lane.deferred) stats.disk += spool::deferred_bytes(record);
    }
    for (const auto& [number, entry] : live_.id_log) {
        stats.disk += Bytes{entry.ids.size() * sizeof(IdHash)};
    }
    for (const auto& [name, run] : live_.runs) {
        stats.disk += Bytes{run.ids->size() * sizeof(IdHash)};
    }
    stats.disk += reserve_ + copies_bytes_;
    stats.repaired = copies_;
    stats.reserve = reserve_;
    stats.volume_free = volume_free_ - std::min(volume_free_, reserve_);
    stats.volume_size = volume_size_;
    stats.committed = committed_;
    stats.dead_letters = live_.letters.size();
    return stats;
}

void MemStore::close() {
    if (closed_) return;
    make_durable();
    closed_ = true;
}

void MemStore::crash(std::size_t kept) {
    for (std::size_t i = 0; i < kept; ++i) unsynced_.at(i)(durable_);
    unsynced_.clear();
    live_ = durable_;
    commits_in_doubt_.clear();
    replays_in_doubt_.clear();
    failures_.clear();
    files_.clear();
    refusal_.reset();
    needs_reopen_ = false;
    closed_ = false;
}

void MemStore::restart() {
    make_durable();
    crash();
}

void MemStore::fail_next(StoreCall call, Errc code, std::uint32_t times, Landed landed) {
    for (; times > 0; --times) failures_.push_back({call, code, landed});
}

bool MemStore::damage(LaneId id, Seq seq) {
    auto& segments = lane(id).segments;
    auto found = segments.upper_bound(seq);
    if (found == segments.begin()) return false;
    found = std::prev(found);
    if (found->first + found->second.segment->count <= seq) return false;
    found->second.damaged = true;
    const auto durable = durable_.lanes.at(id).segments.find(found->first);
    if (durable != durable_.lanes.at(id).segments.end()) durable->second.damaged = true;
    return true;
}

Bytes MemStore::lane_bytes(LaneId id) {
    Bytes bytes;
    for (const auto& [first, stored] : live_.lanes.at(id).segments) {
        bytes += Bytes{stored.segment->payload.size()};
    }
    return bytes;
}

Result<void> MemStore::hold_reserve(Bytes wanted) {
    reserve_ = {};
    if (wanted.count > 0 && reserve_refusal_) return Error{*reserve_refusal_, "injected"};
    reserve_ = wanted;
    return {};
}

void MemStore::set_volume(Bytes free, Bytes size) noexcept {
    volume_free_ = free;
    volume_size_ = size;
}

std::vector<std::string> MemStore::records(LaneId id, bool unsettled_only) const {
    const auto& lane = live_.lanes.at(id);
    const std::set<Seq> ahead(lane.ahead.begin(), lane.ahead.end());
    std::vector<std::string> records;
    for (const auto& [first, stored] : lane.segments) {
        if (stored.damaged) continue;
        const std::string_view payload = stored.segment->payload;
        auto seq = first;
        for (std::size_t at = 0; at < payload.size(); ++seq) {
            const auto end = payload.find('\n', at);
            const bool open = seq >= lane.next_settle && seq < lane.next_write;
            if (!unsettled_only || (open && !ahead.contains(seq))) {
                records.emplace_back(payload.substr(at, end - at));
            }
            at = end + 1;
        }
    }
    for (const auto& [seq, record] : lane.deferred) {
        const bool settled = seq < lane.next_settle || ahead.contains(seq);
        const bool damaged = damaged_deferred_.contains({id, seq});
        if (unsettled_only && settled && !damaged) records.push_back(record.payload);
    }
    return records;
}

}  // namespace opsrelay::test
