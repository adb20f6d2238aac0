#include "support/mem_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/assert.h"

namespace opsrelay::test {

using spool::DeadKind;
using spool::DeadLetter;
using spool::RecordBatch;
using spool::Segment;

MemStore::MemStore(std::uint64_t salt, std::vector<LaneId> lanes, spool::DeadLimits dead)
    : salt_(salt), dead_limits_(dead) {
    for (const auto id : lanes) live_.lanes[id];
    durable_ = live_;
}

MemStore::Lane& MemStore::lane(LaneId id) {
    const auto found = live_.lanes.find(id);
    OPSRELAY_ASSERT(found != live_.lanes.end());
    return found->second;
}

std::optional<MemStore::Failure> MemStore::take_failure(StoreCall call) {
    if (refusal_ && call != StoreCall::read && call != StoreCall::reopen) {
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
        const auto number = static_cast<std::uint16_t>(id);
        const auto name = id == kDefaultLane ? LaneName{}.name : fmt::format("lane-{}", number);
        states.push_back({id, name, lane.next_settle, lane.next_write, lane.ahead});
    }
    return states;
}

Result<void> MemStore::replay_ids(const std::function<void(const IdHash&, std::int64_t)>& sink) {
    for (const auto& [number, entry] : live_.id_log) {
        if (number >= live_.next_entry) break;
        for (const auto& id : entry.ids) sink(id, entry.unix_ms);
    }
    return {};
}

namespace {

std::uint64_t size_of(const DeadLetter& letter) {
    return sizeof(std::uint64_t) + 3 + spool::encode_dead_letter(letter).size();
}

}  // namespace

// The oldest first, whatever their lanes: by number.
void MemStore::evict_admission(State& state) const {
    std::map<std::uint64_t, spool::DeadKey> kept;
    std::uint64_t bytes = 0;
    for (const auto& [key, letter] : state.letters) {
        if (key.kind != DeadKind::admission) continue;
        kept[key.number] = key;
        bytes += size_of(letter);
    }
    while (kept.size() > dead_limits_.admission_letters ||
           bytes > dead_limits_.admission_bytes.count) {
        const auto oldest = state.letters.find(kept.begin()->second);
        bytes -= size_of(oldest->second);
        state.letters.erase(oldest);
        kept.erase(kept.begin());
    }
}

std::vector<spool::IdRun> MemStore::id_runs() const {
    std::vector<spool::IdRun> runs;
    for (const auto& [name, run] : live_.runs) runs.push_back(run.run);
    return runs;
}

std::vector<bool> MemStore::find_ids(std::span<const IdHash> ids) {
    std::vector<bool> found;
    for (const auto& id : ids) {
        found.push_back(std::any_of(live_.runs.begin(), live_.runs.end(), [&](const auto& entry) {
            return entry.second.ids->contains(id);
        }));
    }
    return found;
}

spool::RunJob MemStore::run_job(const spool::RunInfo& info, unsigned filter_bits,
                                std::function<std::set<IdHash>()> ids) {
    return [this, info, filter_bits, ids = std::move(ids)]() -> Result<spool::NewRun> {
        if (const auto failure = take_failure(StoreCall::make_run)) return injected(*failure);
        const auto held = std::make_shared<const std::set<IdHash>>(ids());
        const auto count = std::max<std::size_t>(1, held->size());
        auto filter = std::make_shared<admit::IdFilter>(count, filter_bits);
        for (const auto& id : *held) filter->insert(id);
        const auto file = fmt::format("{}-{}", info.name.generation, info.name.run);
        files_[file] = held;
        auto made = info;
        made.ids = held->size();
        made.pages = spool::pages_for(count);
        return spool::NewRun{{made, filter}, file, 0};
    };
}

spool::RunJob MemStore::seal_job(const spool::SealSpec& spec,
                                 std::shared_ptr<std::vector<IdHash>> ids) {
    const spool::RunInfo info{spec.name, 0, spec.oldest_ms, spec.newest_ms, 0, spec.log_end, {}};
    return run_job(info, spec.filter_bits,
                   [ids = std::move(ids)] { return std::set<IdHash>(ids->begin(), ids->end()); });
}

spool::RunJob MemStore::merge_job(spool::RunName name, std::span<const spool::RunName> inputs,
                                  unsigned filter_bits) {
    spool::RunInfo whole;
    whole.name = name;
    std::vector<RunIds> parts;
    for (const auto& input : inputs) {
        const auto found = live_.runs.find(input);
        if (found == live_.runs.end()) continue;
        const auto& info = found->second.run.info;
        whole.oldest_ms =
            parts.empty() ? info.oldest_ms : std::min(whole.oldest_ms, info.oldest_ms);
        whole.newest_ms = std::max(whole.newest_ms, info.newest_ms);
        whole.log_end = std::max(whole.log_end, info.log_end);
        whole.replaces.push_back(input);
        parts.push_back(found->second.ids);
    }
    return run_job(whole, filter_bits, [parts = std::move(parts)] {
        std::set<IdHash> all;
        for (const auto& part : parts) all.insert(part->begin(), part->end());
        return all;
    });
}

// Durable at once, with all that it replaces.
void MemStore::apply(const spool::NewRun& made, const RunIds& ids) {
    const auto& info = made.run.info;
    for (auto* state : {&live_, &durable_}) {
        if (info.ids > 0) state->runs[info.name] = {made.run, ids};
        for (const auto& name : info.replaces) state->runs.erase(name);
        state->sealed = std::max(state->sealed, info.log_end);
        state->id_log.erase(state->id_log.begin(), state->id_log.lower_bound(state->sealed));
    }
}

Result<void> MemStore::adopt_run(const spool::NewRun& made) {
    if (auto refused = refused_write()) return *refused;
    const auto failure = take_failure(StoreCall::adopt_run);
    const auto file = files_.extract(made.file);
    OPSRELAY_ASSERT(!file.empty());
    if (!failure || failure->landed == Landed::yes) apply(made, file.mapped());
    if (failure) return injected(*failure);
    return {};
}

Result<void> MemStore::drop_runs(std::span<const spool::RunName> names) {
    if (auto refused = refused_write()) return *refused;
    if (const auto failure = take_failure(StoreCall::drop_runs)) return injected(*failure);
    for (const auto& name : names) {
        for (auto* state : {&live_, &durable_}) state->runs.erase(name);
    }
    return {};
}

bool MemStore::damage_run(spool::RunName name) {
    for (auto* state : {&live_, &durable_}) {
        const auto found = state->runs.find(name);
        if (found == state->runs.end()) return false;
        found->second.ids = std::make_shared<const std::set<IdHash>>();
    }
    ++damaged_pages_;
    return true;
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
    if (ack.next <= lane.next_settle && ack.dead.empty() && ahead == lane.ahead) return {};
    if (const auto failure = take_failure(StoreCall::ack)) return injected(*failure);
    const std::vector<DeadLetter> dead(ack.dead.begin(), ack.dead.end());
    const Change change = [id = ack.lane, next_settle, ahead, dead](State& state) {
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
    };
    change(live_);
    unsynced_.push_back(change);
    return {};
}

Result<std::uint64_t> MemStore::replay(LaneId id, std::span<const spool::Revival> revivals) {
    if (auto refused = refused_write()) return *refused;
    if (commits_in_doubt_.contains(id)) {
        return Error{Errc::spool_busy, "replay: a failed commit must be retried first"};
    }
    undo_replays();
    std::map<spool::DeadKey, std::string> wanted;
    for (const auto& revival : revivals) {
        OPSRELAY_ASSERT(revival.key.lane == id);
        wanted.emplace(revival.key, revival.payload);
    }
    std::vector<Segment>
        segments;  // one a letter: how they are grouped is not part of the contract
    std::vector<DeadLetter> taken;
    for (const auto& [key, payload] : wanted) {
        const auto found = live_.letters.find(key);
        if (found == live_.letters.end()) continue;
        const auto& event = payload.empty() ? found->second.payload : payload;
        if (event.empty()) continue;
        taken.push_back(found->second);
        Segment segment;
        segment.lane = id;
        segment.payload = event + '\n';
        segment.count = 1;
        segment.received_unix_ms = found->second.unix_ms;
        segments.push_back(std::move(segment));
    }
    if (taken.empty()) return std::uint64_t{0};
    const Change change = [id, segments, taken, first = lane(id).next_write](State& state) {
        auto& changed = state.lanes.at(id);
        changed.next_write = first;
        for (const auto& segment : segments) {
            changed.segments[changed.next_write++] = {std::make_shared<const Segment>(segment),
                                                      false};
        }
        for (const auto& letter : taken) state.letters.erase(key_of(letter));
    };
    if (const auto failure = take_failure(StoreCall::replay)) {
        auto& doubt = replays_in_doubt_[id];
        doubt = {};
        doubt.letters = taken;
        for (std::size_t i = 0; i < segments.size(); ++i) {
            doubt.keys.push_back(lane(id).next_write + i);
        }
        if (failure->landed == Landed::yes) {
            make_durable();
            change(durable_);
        }
        return injected(*failure);
    }
    apply_durably(change);
    return static_cast<std::uint64_t>(taken.size());
}

Result<spool::DeadPage> MemStore::read_dead(const spool::DeadQuery& query) {
    OPSRELAY_ASSERT(!closed_);
    spool::DeadPage page;
    std::size_t looked_at = 0;
    Bytes bytes;
    for (auto it = live_.letters.lower_bound(query.from); it != live_.letters.end(); ++it) {
        const Bytes size{spool::encode_dead_letter(it->second).size()};
        if (page.letters.size() >= query.letters_max || looked_at >= query.looked_at_max ||
            (!page.letters.empty() && bytes + size > query.bytes_max)) {
            page.next = it->first;
            break;
        }
        ++looked_at;
        if (!matches(query.filter, it->second)) continue;
        bytes += size;
        page.letters.push_back(it->second);
    }
    return page;
}

Result<std::uint64_t> MemStore::purge_dead(std::span<const spool::DeadKey> letters) {
    if (auto refused = refused_write()) return *refused;
    undo_replays();
    const std::set<spool::DeadKey> keys(letters.begin(), letters.end());
    const auto known = std::count_if(
        keys.begin(), keys.end(), [this](const auto& key) { return live_.letters.contains(key); });
    const Change change = [keys](State& state) {
        for (const auto& key : keys) state.letters.erase(key);
    };
    if (const auto failure = take_failure(StoreCall::purge_dead)) {
        if (failure->landed == Landed::yes) {
            make_durable();
            change(durable_);
        }
        return injected(*failure);
    }
    if (known > 0) apply_durably(change);
    return static_cast<std::uint64_t>(known);
}

spool::DeadUsage MemStore::dead_usage() const {
    spool::DeadUsage usage;
    usage.letters_max = dead_limits_.upstream_letters;
    usage.bytes_max = dead_limits_.upstream_bytes;
    for (const auto& [key, letter] : live_.letters) {
        if (key.kind != DeadKind::upstream) continue;
        ++usage.letters;
        usage.bytes += Bytes{size_of(letter)};
    }
    return usage;
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
    for (auto& [id, lane] : live_.lanes) lane.next_write = before.lanes.at(id).next_write;
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
    for (const auto& [number, entry] : live_.id_log) {
        stats.disk += Bytes{entry.ids.size() * sizeof(IdHash)};
    }
    for (const auto& [name, run] : live_.runs) {
        stats.disk += Bytes{run.ids->size() * sizeof(IdHash)};
    }
    stats.disk += reserve_;
    stats.reserve = reserve_;
    stats.volume_free = volume_free_ - std::min(volume_free_, reserve_);
    stats.volume_size = volume_size_;
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
    return records;
}

std::vector<DeadLetter> MemStore::dead_letters() const {
    std::vector<DeadLetter> all;
    for (const auto& [key, letter] : live_.letters) all.push_back(letter);
    std::stable_partition(all.begin(), all.end(), [](const DeadLetter& letter) {
        return letter.kind == DeadKind::upstream;
    });
    return all;
}

}  // namespace opsrelay::test
