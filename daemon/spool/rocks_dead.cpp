#include "spool/rocks_dead.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <set>
#include <string>

#include "spool/keys.h"
#include "spool/options.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

rocksdb::Slice slice(const DeadKeyBytes& key) { return {key.data(), key.size()}; }

DeadKeyBytes upstream_key(LaneId lane, Seq seq) {
    return dead_key({DeadKind::upstream, lane, seq});
}

/// Without an event when there is no such dead letter.
Result<DeadLetter> get_dead(const RocksHandle& handle, LaneId lane, Seq seq) {
    std::string value;
    const auto status = handle.db().Get(make_read_options(), handle.family(kDeadFamily),
                                        slice(upstream_key(lane, seq)), &value);
    if (status.IsNotFound()) return DeadLetter{};
    if (!status.ok()) return rocks_error(status, fmt::format("read dead letter {}", seq));
    auto letter = decode_dead_letter(value);
    if (!letter) return with_prefix(letter.error(), fmt::format("read dead letter {}", seq));
    return letter;
}

bool has_room(const Segment& segment, const DeadLetter& letter) noexcept {
    const auto later = letter.unix_ms - segment.received_unix_ms;
    return segment.count < kSegmentEventsMax &&
           segment.payload.size() + letter.payload.size() < kSegmentRawBytesMax.count &&
           later >= 0 && later <= kSegmentSpanMax.count();
}

}  // namespace

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

Result<std::uint64_t> put_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                               const Ack& ack) {
    auto* const family = handle.family(kDeadFamily);
    std::set<Seq> fresh;
    for (const auto& letter : ack.dead) {
        auto own = letter;
        own.kind = DeadKind::upstream;
        own.lane = ack.lane;
        const auto key = upstream_key(own.lane, own.seq);
        std::string value;
        const auto status = handle.db().Get(make_read_options(), family, slice(key), &value);
        if (status.IsNotFound()) fresh.insert(own.seq);
        if (!status.ok() && !status.IsNotFound() && !status.IsCorruption()) {
            return rocks_error(status, fmt::format("look for dead letter {}", own.seq));
        }
        batch.Put(family, slice(key), encode_dead_letter(own));
    }
    return fresh.size();
}

Result<TakenDead> take_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch, LaneId lane,
                            std::span<const Seq> seqs) {
    TakenDead taken;
    auto& segments = taken.segments;
    for (const auto seq : std::set<Seq>(seqs.begin(), seqs.end())) {
        auto letter = get_dead(handle, lane, seq);
        if (!letter) return letter.error();
        if (letter->payload.empty()) continue;
        if (segments.empty() || !has_room(segments.back(), *letter)) {
            segments.emplace_back().lane = lane;
            segments.back().received_unix_ms = letter->unix_ms;
        }
        auto& segment = segments.back();
        segment.payload += letter->payload;
        segment.payload += '\n';
        ++segment.count;
        batch.Delete(handle.family(kDeadFamily), slice(upstream_key(lane, seq)));
        taken.letters.push_back(std::move(*letter));
    }
    return taken;
}

}  // namespace opsrelay::spool
