#include "spool/store_oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "samples.h"

namespace opsrelay::test {

using spool::DeadKey;
using spool::DeadKind;
using spool::DeadLetter;
using spool::DeferredRecord;
using spool::Segment;

namespace {

std::size_t hash_of(std::string_view text) { return std::hash<std::string_view>{}(text); }

std::size_t hash_of(const DeadLetter& letter) { return hash_of(letter.reason + letter.payload); }

std::size_t hash_of(const DeferredRecord& record) {
    return hash_of(fmt::format("{} {} {}", record.due_unix_ms, record.failures, record.payload));
}

template <typename Key, typename Value>
void erase_from(std::map<Key, Value>& map, const Key& from) {
    map.erase(map.lower_bound(from), map.end());
}

void put_records(StoreImage::Lane& lane, std::string_view payload) {
    while (!payload.empty()) {
        const auto end = payload.find('\n');
        lane.records[lane.end++] = hash_of(payload.substr(0, end));
        payload.remove_prefix(end + 1);
    }
}

template <typename T>
void add_once(std::vector<T>& all, const T& one) {
    if (std::find(all.begin(), all.end(), one) == all.end()) all.push_back(one);
}

/// A key that is in one only, or has another value.
std::pair<std::uint64_t, std::string> first_difference(
    const std::map<std::uint64_t, std::size_t>& seen,
    const std::map<std::uint64_t, std::size_t>& expected) {
    for (const auto& [key, value] : expected) {
        const auto found = seen.find(key);
        if (found == seen.end()) return {key, "is missing"};
        if (found->second != value) return {key, "is another one"};
    }
    for (const auto& [key, value] : seen) {
        if (!expected.contains(key)) return {key, "should not be there"};
    }
    return {0, ""};
}

}  // namespace

StoreImage look(spool::Store& store, const std::set<IdHash>& ids) {
    StoreImage image;
    for (const auto& state : store.lanes()) {
        auto& lane = image.lanes[state.lane];
        lane.next = state.next_settle;
        lane.end = state.next_write;
        lane.ahead = {state.ahead.begin(), state.ahead.end()};
        auto seq = lane.next;
        for (const auto& record : read_all(store, 1, state.lane)) {
            lane.records[seq++] = hash_of(record);
        }
        for (const auto& entry : state.deferred) {
            const auto record = store.read_deferred(state.lane, entry.seq).value();
            if (record) lane.deferred[entry.seq] = hash_of(*record);
        }
    }
    for (const auto& letter : all_dead(store)) image.letters[key_of(letter)] = hash_of(letter);
    for (const auto& id : ids_of(store)) image.ids.insert(id);
    const std::vector<IdHash> asked(ids.begin(), ids.end());
    const auto found = store.find_ids(asked);
    for (std::size_t i = 0; i < asked.size(); ++i) {
        if (found[i]) image.ids.insert(asked[i]);
    }
    return image;
}

std::string describe(const StoreImage& image) {
    std::string text;
    for (const auto& [id, lane] : image.lanes) {
        text +=
            fmt::format("[lane {}: next {}, end {}, {} ahead, {} records] ", static_cast<int>(id),
                        lane.next, lane.end, lane.ahead.size(), lane.records.size());
    }
    return text + fmt::format("{} letters, {} ids", image.letters.size(), image.ids.size());
}

std::string difference(const StoreImage& seen, const StoreImage& expected) {
    std::string text;
    for (const auto& [id, lane] : expected.lanes) {
        const auto found = seen.lanes.find(id);
        if (found == seen.lanes.end()) return " a lane is missing";
        const auto [seq, other] = first_difference(found->second.records, lane.records);
        if (seq != 0) {
            text += fmt::format(" lane {} record {} {};", static_cast<int>(id), seq, other);
        }
        if (found->second.ahead != lane.ahead) {
            text += fmt::format(" lane {} other records ahead;", static_cast<int>(id));
        }
        const auto [late, differs] = first_difference(found->second.deferred, lane.deferred);
        if (!differs.empty()) {
            text += fmt::format(" lane {} deferred {} {};", static_cast<int>(id), late, differs);
        }
    }
    std::map<std::uint64_t, std::size_t> letters[2];
    for (const auto& [key, hash] : seen.letters) letters[0][key.number] += hash;
    for (const auto& [key, hash] : expected.letters) letters[1][key.number] += hash;
    const auto [number, other] = first_difference(letters[0], letters[1]);
    if (!other.empty()) text += fmt::format(" letter {} {};", number, other);
    if (seen.ids != expected.ids) text += " other ids";
    return text.empty() ? "" : " (" + text + ")";
}

StoreOracle::StoreOracle(StoreImage first) : view_(std::move(first)) {
    now_ = past_ = {State{view_, next_letter_}};
}

void StoreOracle::apply(const Change& change, bool succeeded, bool durable) {
    const auto before = succeeded ? std::exchange(now_, {}) : now_;
    for (auto state : before) {
        change(state);
        add_once(now_, state);
    }
    if (!succeeded) return;
    State shown{view_, next_letter_};
    change(shown);
    view_ = std::move(shown.image);
    next_letter_ = shown.next_letter;
    if (durable) {
        past_.clear();
        torn_.clear();
    }
    for (const auto& state : now_) add_once(past_, state);
}

void StoreOracle::undo_replays(State& state) const {
    if (replays_.empty()) return;
    for (const auto& [key, letter] : replays_) {
        state.image.letters[key] = letter;
        auto& lane = state.image.lanes[key.lane];
        lane.end = std::max(view_.lanes.at(key.lane).end, lane.next);
        erase_from(lane.records, lane.end);
    }
}

void StoreOracle::undo_commits(State& state) const {
    for (auto& [id, lane] : state.image.lanes) {
        lane.end = std::max(view_.lanes.at(id).end, lane.next);
        erase_from(lane.records, lane.end);
    }
    for (const auto& id : doubtful_ids_) state.image.ids.erase(id);
}

void StoreOracle::commit(std::span<const Segment> segments, std::span<const DeadLetter> rejected,
                         bool succeeded) {
    const auto change = [&, first = next_letter_](State& state) {
        undo_replays(state);
        undo_commits(state);
        for (const auto& segment : segments) {
            put_records(state.image.lanes[segment.lane], segment.payload);
            state.image.ids.insert(segment.ids.begin(), segment.ids.end());
        }
        if (!rejected.empty()) state.next_letter = first;
        for (auto letter : rejected) {
            letter.kind = DeadKind::admission;
            letter.seq = state.next_letter++;
            state.image.letters[key_of(letter)] = hash_of(letter);
        }
    };
    for (const auto& segment : segments) {
        ids_.insert(segment.ids.begin(), segment.ids.end());
        if (!succeeded) doubtful_ids_.insert(segment.ids.begin(), segment.ids.end());
    }
    if (!succeeded) {
        torn_ = now_;
        for (const auto& segment : segments) tear(segment.lane, segment.payload, segment.ids);
    }
    apply(change, succeeded, true);
    if (!succeeded) return;
    doubtful_ids_.clear();
    replays_.clear();
}

// To each of torn_ one more segment, with its ids or, being the last one, without.
void StoreOracle::tear(LaneId id, std::string_view payload, std::span<const IdHash> ids) {
    for (auto state : std::vector<State>(torn_)) {
        auto& lane = state.image.lanes[id];
        lane.end = std::max(view_.lanes.at(id).end, lane.next);
        erase_from(lane.records, lane.end);
        put_records(lane, payload);
        add_once(torn_, state);
        state.image.ids.insert(ids.begin(), ids.end());
        add_once(torn_, state);
    }
}

void StoreOracle::ack(const spool::Ack& ack, bool succeeded) {
    const auto change = [&](State& state) {
        auto& lane = state.image.lanes[ack.lane];
        lane.next = std::max(lane.next, ack.next);
        lane.records.erase(lane.records.begin(), lane.records.lower_bound(lane.next));
        lane.ahead.clear();
        for (const auto seq : ack.ahead) {
            if (seq >= lane.next) lane.ahead.insert(seq);
        }
        for (auto letter : ack.dead) {
            letter.lane = ack.lane;
            state.image.letters[key_of(letter)] = hash_of(letter);
        }
        for (const auto& record : ack.deferred) lane.deferred[record.seq] = hash_of(record);
        for (const auto seq : ack.deferred_ended) lane.deferred.erase(seq);
    };
    apply(change, succeeded, false);
}

void StoreOracle::replay(LaneId id, const std::map<DeadKey, std::string>& letters, bool succeeded) {
    const auto change = [&](State& state) {
        undo_replays(state);
        auto& lane = state.image.lanes[id];
        for (const auto& [key, text] : letters) {
            lane.records[lane.end++] = hash_of(text);
            state.image.letters.erase(key);
        }
    };
    std::string payload;
    for (const auto& [key, text] : letters) payload += text + '\n';
    if (!succeeded) {
        torn_ = now_;
        tear(id, payload, {});  // the letters are deleted behind it
    }
    apply(change, succeeded, true);
    if (succeeded) return replays_.clear();
    for (const auto& [key, text] : letters) replays_[key] = view_.letters.at(key);
}

void StoreOracle::purge(std::span<const DeadKey> letters, bool succeeded) {
    const auto change = [&](State& state) {
        undo_replays(state);
        for (const auto& key : letters) state.image.letters.erase(key);
    };
    apply(change, succeeded, true);
    if (succeeded) replays_.clear();
}

void StoreOracle::sync() { past_ = now_; }

bool StoreOracle::explains_reopened(const StoreImage& seen) {
    reopen_failed();  // a replay may have been undone long ago, or only now
    std::vector<State> left;
    for (const auto& state : now_) {
        auto shown = state;
        undo_commits(shown);
        if (shown.image == seen) add_once(left, state);
    }
    if (left.empty()) return false;
    replays_.clear();
    view_ = seen;
    past_ = now_ = std::move(left);
    torn_.clear();
    return true;
}

void StoreOracle::reopen_failed() {
    for (auto state : std::vector<State>(now_)) {
        undo_replays(state);
        add_once(now_, state);
    }
}

bool StoreOracle::explains_new(const StoreImage& seen, bool power_loss) {
    auto possible = now_;
    if (power_loss) {
        possible.insert(possible.end(), past_.begin(), past_.end());
        possible.insert(possible.end(), torn_.begin(), torn_.end());
    }
    const auto found = std::find_if(possible.begin(), possible.end(),
                                    [&seen](const State& state) { return state.image == seen; });
    if (found == possible.end()) return false;
    const auto state = *found;
    now_ = past_ = {state};
    torn_.clear();
    view_ = seen;
    next_letter_ = state.next_letter;
    doubtful_ids_.clear();
    replays_.clear();
    return true;
}

std::string StoreOracle::explain(const StoreImage& seen) const {
    std::string text;
    const auto tell = [&](const char* when, const State& state) {
        text +=
            fmt::format("\n  {}: {}{}", when, describe(state.image), difference(seen, state.image));
    };
    for (const auto& state : now_) tell("now", state);
    for (const auto& state : past_) tell("power loss", state);
    for (const auto& state : torn_) tell("torn", state);
    return text;
}

}  // namespace opsrelay::test
