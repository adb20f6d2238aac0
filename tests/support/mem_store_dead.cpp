// The dead letters of MemStore.
#include <algorithm>

#include "core/assert.h"
#include "support/mem_store.h"

namespace opsrelay::test {

using spool::DeadKind;
using spool::DeadLetter;
using spool::Segment;

namespace {

std::uint64_t size_of(const DeadLetter& letter) { return spool::stored_bytes(letter).count; }

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

spool::DeadEnds MemStore::dead_ends() const {
    spool::DeadEnds ends{.admission = live_.next_admission};
    for (const auto& [id, lane] : live_.lanes) ends.lanes.emplace(id, lane.next_write);
    return ends;
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

std::vector<DeadLetter> MemStore::dead_letters() const {
    std::vector<DeadLetter> all;
    for (const auto& [key, letter] : live_.letters) all.push_back(letter);
    std::stable_partition(all.begin(), all.end(), [](const DeadLetter& letter) {
        return letter.kind == DeadKind::upstream;
    });
    return all;
}

}  // namespace opsrelay::test
