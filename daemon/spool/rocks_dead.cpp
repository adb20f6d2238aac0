#include "spool/rocks_dead.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/assert.h"
#include "spool/keys.h"
#include "spool/options.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

rocksdb::Slice slice(const DeadKeyBytes& key) { return {key.data(), key.size()}; }

constexpr std::uint64_t kKeyBytes = sizeof(DeadKeyBytes);

Error letter_error(const DeadKey& key, Error error) {
    return with_prefix(std::move(error), fmt::format("dead letter {} of lane {}", key.number,
                                                     static_cast<std::uint16_t>(key.lane)));
}

/// The value stored for a dead letter; nullopt: there is none; "": it cannot be read.
Result<std::optional<std::string>> get_value(const RocksHandle& handle, const DeadKey& key) {
    std::string value;
    const auto status = handle.db().Get(make_read_options(), handle.family(kDeadFamily),
                                        slice(dead_key(key)), &value);
    if (status.IsNotFound()) return std::optional<std::string>{};
    if (status.IsCorruption()) return std::optional<std::string>{std::string{}};
    if (!status.ok()) return letter_error(key, rocks_error(status, "read"));
    return std::optional<std::string>{std::move(value)};
}

void put_usage(rocksdb::WriteBatch& batch, const DeadUsage& before, const DeadUsage& after) {
    if (before.letters == after.letters && before.bytes == after.bytes) return;
    batch.Put(rocksdb::Slice(kDeadUpstreamKey), encode_u64(after.letters));
    batch.Put(rocksdb::Slice(kDeadBytesKey), encode_u64(after.bytes.count));
}

/// What a damaged spool has counted wrong must not wrap around.
void take_off(DeadUsage& usage, std::uint64_t value_bytes) noexcept {
    usage.letters -= std::min<std::uint64_t>(usage.letters, 1);
    usage.bytes = usage.bytes - std::min(usage.bytes, Bytes{kKeyBytes + value_bytes});
}

void delete_letter(const RocksHandle& handle, rocksdb::WriteBatch& batch, const DeadKey& key,
                   std::size_t value_bytes, TakenDead& taken) {
    batch.Delete(handle.family(kDeadFamily), slice(dead_key(key)));
    if (key.kind == DeadKind::upstream) take_off(taken.usage, value_bytes);
}

bool has_room(const Segment& segment, std::int64_t unix_ms, std::size_t bytes) noexcept {
    const auto later = unix_ms - segment.received_unix_ms;
    return segment.count < kSegmentEventsMax &&
           segment.payload.size() + bytes < kSegmentRawBytesMax.count && later >= 0 &&
           later <= kSegmentSpanMax.count();
}

void add_record(TakenDead& taken, LaneId lane, std::int64_t unix_ms, std::string_view payload) {
    auto& segments = taken.segments;
    if (segments.empty() || !has_room(segments.back(), unix_ms, payload.size())) {
        segments.emplace_back().lane = lane;
        segments.back().received_unix_ms = unix_ms;
    }
    auto& segment = segments.back();
    segment.payload += payload;
    segment.payload += '\n';
    ++segment.count;
}

}  // namespace

bool skip_damaged_letters(rocksdb::Iterator& it, const DeadKey& at) {
    constexpr unsigned kDoublings = 63;
    for (const auto kind : {DeadKind::admission, DeadKind::upstream}) {
        for (std::uint16_t lane = 0; lane < kLaneNumbersMax; ++lane) {
            const DeadKey first{kind, LaneId{lane}, 0};
            if (first.kind < at.kind || (first.kind == at.kind && first.lane < at.lane)) continue;
            const auto from = std::max(first, at);
            for (unsigned i = 0; i < kDoublings; ++i) {
                auto to = from;
                to.number += std::uint64_t{1} << i;
                if (to.number < from.number) break;
                it.Seek(slice(dead_key(to)));
                if (it.Valid()) return true;
                if (it.status().ok()) return false;
            }
        }
    }
    return false;
}

AdmissionChange put_rejected(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                             const AdmissionLetters& letters,
                             std::span<const DeadLetter> rejected) {
    AdmissionChange change;
    std::vector<std::string> values;
    for (const auto& letter : rejected) {
        auto numbered = letter;
        numbered.kind = DeadKind::admission;
        numbered.seq = letters.next_number() + change.fresh.size();
        values.push_back(encode_dead_letter(numbered));
        const auto bytes = sizeof(DeadKeyBytes) + values.back().size();
        change.fresh.push_back({numbered.seq, static_cast<std::uint32_t>(bytes), letter.lane});
    }
    if (!change.fresh.empty()) {
        batch.Put(rocksdb::Slice(kDeadNextKey), encode_u64(change.fresh.back().number + 1));
    }
    change.evicted = letters.evictions(change.fresh);
    auto* const family = handle.family(kDeadFamily);
    const auto old = std::min(change.evicted, letters.size());
    for (std::size_t i = 0; i < old; ++i) {
        const auto& entry = letters.oldest(i);
        batch.Delete(family, slice(dead_key({DeadKind::admission, entry.lane, entry.number})));
    }
    for (std::size_t i = change.evicted - old; i < change.fresh.size(); ++i) {
        const auto& entry = change.fresh[i];
        batch.Put(family, slice(dead_key({DeadKind::admission, entry.lane, entry.number})),
                  values[i]);
    }
    return change;
}

Result<DeadUsage> put_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                           const DeadUsage& usage, std::span<const DeadLetter> letters) {
    auto after = usage;
    std::map<DeadKey, std::size_t> sizes;  // of letters that are there, or added by now
    for (const auto& letter : letters) {
        const auto key = key_of(letter);
        const auto value = encode_dead_letter(letter);
        batch.Put(handle.family(kDeadFamily), slice(dead_key(key)), value);
        if (key.kind == DeadKind::admission) continue;
        const auto [known, first_time] = sizes.try_emplace(key, value.size());
        if (first_time) {
            const auto stored = get_value(handle, key);
            if (!stored) return stored.error();
            if (*stored) take_off(after, (*stored)->size());
        } else {
            take_off(after, std::exchange(known->second, value.size()));
        }
        ++after.letters;
        after.bytes += Bytes{kKeyBytes + value.size()};
    }
    put_usage(batch, usage, after);
    return after;
}

std::vector<DeadLetter> letters_of(const Ack& ack) {
    std::vector<DeadLetter> letters(ack.dead.begin(), ack.dead.end());
    for (auto& letter : letters) {
        letter.kind = DeadKind::upstream;
        letter.lane = ack.lane;
    }
    return letters;
}

// A failed replay may be on disk all the same: its records in numbers that are given out again, its
// dead letters gone.
Result<DeadUsage> undo_replays_in(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                  const SpoolBook& book) {
    auto usage = book.dead;
    for (const auto& [id, lane] : book.lanes) {
        if (lane.replay_keys.empty()) continue;
        for (const auto number : lane.replay_keys) {
            const auto key = seq_key(number);
            batch.Delete(lane.family, rocksdb::Slice(key.data(), key.size()));
        }
        batch.Put(end_key(id), encode_u64(lane.next_write));
        const auto put = put_dead(handle, batch, usage, lane.replay_letters);
        if (!put) return put.error();
        usage = *put;
    }
    return usage;
}

Result<TakenDead> drop_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                            const DeadUsage& usage, std::span<const DeadKey> keys) {
    TakenDead taken;
    taken.usage = usage;
    for (const auto& key : std::set<DeadKey>(keys.begin(), keys.end())) {
        if (key.kind == DeadKind::admission) taken.admission.insert(key.number);
        const auto value = get_value(handle, key);
        if (!value) return value.error();
        if (!*value) continue;
        delete_letter(handle, batch, key, (*value)->size(), taken);
        auto& gone = taken.letters.emplace_back();
        gone.kind = key.kind;
        gone.lane = key.lane;
        gone.seq = key.number;
    }
    put_usage(batch, usage, taken.usage);
    return taken;
}

Result<TakenDead> take_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                            const DeadUsage& usage, LaneId lane, std::span<const Revival> letters) {
    TakenDead taken;
    taken.usage = usage;
    std::map<DeadKey, std::string_view> wanted;  // in order, each once
    for (const auto& revival : letters) {
        OPSRELAY_ASSERT(revival.key.lane == lane);
        wanted.emplace(revival.key, revival.payload);
    }
    for (const auto& [key, payload] : wanted) {
        const auto value = get_value(handle, key);
        if (!value) return value.error();
        if (!*value) continue;
        auto letter = decode_dead_letter(**value);
        if (!letter) return letter_error(key, letter.error());
        if (letter->payload.empty() && payload.empty()) continue;
        add_record(taken, lane, letter->unix_ms,
                   payload.empty() ? std::string_view(letter->payload) : payload);
        delete_letter(handle, batch, key, (*value)->size(), taken);
        if (key.kind == DeadKind::admission) taken.admission.insert(key.number);
        taken.letters.push_back(std::move(*letter));
    }
    put_usage(batch, usage, taken.usage);
    return taken;
}

void forget_dead(SpoolBook& book, const TakenDead& taken) {
    book.dead = taken.usage;
    book.admission.forget(taken.admission);
}

Result<DeadPage> read_dead_page(const RocksHandle& handle, const DeadQuery& query) {
    DeadPage page;
    Bytes bytes;
    std::size_t looked_at = 0;
    auto at = query.from;  // everything before it has been looked at
    const std::unique_ptr<rocksdb::Iterator> it(
        handle.db().NewIterator(make_read_options(), handle.family(kDeadFamily)));
    it->Seek(slice(dead_key(at)));
    for (;;) {
        if (!it->Valid()) {
            if (it->status().ok()) return page;
            if (!it->status().IsCorruption()) {
                return rocks_error(it->status(), "read dead letters");
            }
            ++page.damaged;
            ++looked_at;
            if (!skip_damaged_letters(*it, at)) return page;
            continue;
        }
        const auto key = parse_dead_key(it->key().ToStringView());
        const Bytes size{it->value().size()};
        const bool is_full = page.letters.size() >= query.letters_max ||
                             looked_at >= query.looked_at_max ||
                             (!page.letters.empty() && bytes + size > query.bytes_max);
        if (key && is_full) {
            page.next = *key;
            return page;
        }
        if (key) {
            ++looked_at;
            at = *key;
            ++at.number;
            auto letter = decode_dead_letter(it->value().ToStringView());
            if (!letter) {
                ++page.damaged;
            } else if (matches(query.filter, *letter)) {
                bytes += size;
                page.letters.push_back(std::move(*letter));
            }
        }
        it->Next();
    }
}

}  // namespace opsrelay::spool
