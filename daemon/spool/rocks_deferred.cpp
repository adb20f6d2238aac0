#include "spool/rocks_deferred.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "core/log.h"
#include "spool/disk_plan.h"
#include "spool/keys.h"
#include "spool/options.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

rocksdb::Slice slice(const DeferredKey& key) { return {key.data(), key.size()}; }

// RocksDB's iterator ends at a block that cannot be read. Those behind it are looked for in growing
// steps, which may leave out as many as were passed; then in the next lane.
bool skip_damage(rocksdb::Iterator& it, LaneId lane, Seq seq) {
    constexpr unsigned kDoublings = 48;
    for (auto number = static_cast<std::uint16_t>(lane); number < kLaneNumbersMax; ++number) {
        const Seq from = LaneId{number} == lane ? seq : 0;
        for (unsigned i = 0; i < kDoublings; ++i) {
            it.Seek(slice(deferred_key(LaneId{number}, from + (Seq{1} << i))));
            if (it.Valid()) return true;
            if (it.status().ok()) return false;
        }
    }
    return false;
}

}  // namespace

DeferredLimits limits_of(const Options& options) noexcept {
    return {kDeferredRecordsMax, plan_disk(options).deferred};
}

void put_deferred(const RocksHandle& handle, rocksdb::WriteBatch& batch, const LaneBook& book,
                  const Ack& ack) {
    auto* const family = handle.family(kDeferredFamily);
    for (const auto& record : ack.deferred) {
        batch.Put(family, slice(deferred_key(ack.lane, record.seq)),
                  encode_deferred(ack.lane, record));
    }
    for (const auto seq : ack.deferred_ended) {
        const auto is_it = [seq](const DeferredRecord& record) { return record.seq == seq; };
        const bool put = std::any_of(ack.deferred.begin(), ack.deferred.end(), is_it);
        if (!put && !book.deferred.contains(seq)) continue;
        batch.Delete(family, slice(deferred_key(ack.lane, seq)));
    }
}

void note_deferred(LaneBook& book, const Ack& ack) {
    for (const auto& record : ack.deferred) {
        book.deferred[record.seq] = {record.seq, record.due_unix_ms, record.received_unix_ms,
                                     deferred_bytes(record)};
    }
    for (const auto seq : ack.deferred_ended) book.deferred.erase(seq);
}

Result<std::optional<DeferredRecord>> read_deferred(const RocksHandle& handle, LaneId lane,
                                                    Seq seq) {
    std::string value;
    const auto status = handle.db().Get(make_read_options(), handle.family(kDeferredFamily),
                                        slice(deferred_key(lane, seq)), &value);
    if (status.IsNotFound()) return std::optional<DeferredRecord>{};
    const auto what =
        fmt::format("deferred record {} of lane {}", seq, static_cast<std::uint16_t>(lane));
    auto stored =
        status.ok() ? decode_deferred(value) : Result<StoredDeferred>(rocks_error(status, "read"));
    if (stored) return std::optional<DeferredRecord>{std::move(stored->record)};
    if (stored.error().code != Errc::spool_corrupt) return with_prefix(stored.error(), what);
    log::error("spool", "a deferred record cannot be read and is given up",
               {{"record", what}, {"cause", stored.error().context}});
    return std::optional<DeferredRecord>{};
}

std::uint64_t visit_deferred(const RocksHandle& handle,
                             const std::function<void(const StoredDeferred&)>& visit) {
    auto* const family = handle.family(kDeferredFamily);
    if (family == nullptr) return 0;
    std::uint64_t damaged = 0;
    std::pair<LaneId, Seq> at{};  // everything before it has been looked at
    const std::unique_ptr<rocksdb::Iterator> it(
        handle.db().NewIterator(make_read_options(), family));
    it->SeekToFirst();
    for (;;) {
        if (!it->Valid()) {
            if (it->status().ok()) return damaged;
            ++damaged;
            if (!skip_damage(*it, at.first, at.second)) return damaged;
            continue;
        }
        if (const auto key = parse_deferred_key(it->key().ToStringView())) {
            at = {key->first, key->second + 1};
            const auto stored = decode_deferred(it->value().ToStringView());
            if (stored && stored->lane == key->first && stored->record.seq == key->second) {
                visit(*stored);
            } else {
                ++damaged;
            }
        }
        it->Next();
    }
}

}  // namespace opsrelay::spool
