#include "spool/rocks_state.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <memory>

#include "core/assert.h"
#include "core/log.h"
#include "core/random.h"
#include "spool/disk_plan.h"
#include "spool/rocks_deferred.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"
#include "spool/segment.h"

namespace opsrelay::spool {
namespace {

Error unusable(const Options& options, std::string_view why, std::string_view next) {
    return {Errc::spool_unusable, fmt::format("spool {}: {}; {}", options.dir, why, next)};
}

/// Reads the default family.
class Meta {
public:
    Meta(const RocksHandle& handle, const Options& options) : handle_(handle), options_(options) {}

    /// nullopt: there is no such key.
    [[nodiscard]] Result<std::optional<std::string>> text(const std::string& key) const {
        std::string value;
        const auto status =
            handle_.db().Get(make_read_options(), handle_.db().DefaultColumnFamily(), key, &value);
        if (status.IsNotFound()) return std::optional<std::string>{};
        if (status.ok()) return std::optional<std::string>{std::move(value)};
        return damaged(key, status.ToString());
    }
    [[nodiscard]] Result<std::optional<std::uint64_t>> number(std::string_view key) const {
        const auto value = text(std::string(key));
        if (!value) return value.error();
        if (!*value) return std::optional<std::uint64_t>{};
        const auto decoded = decode_u64(**value);
        if (decoded) return decoded;
        return damaged(key, fmt::format("{} bytes, must be 8", (*value)->size()));
    }
    [[nodiscard]] Error damaged(std::string_view key, std::string_view why) const {
        return {Errc::spool_corrupt,
                fmt::format("spool {}: key {} cannot be read: {}", options_.dir, key, why)};
    }

private:
    const RocksHandle& handle_;
    const Options& options_;
};

Result<void> check_format(const Meta& meta, const RocksHandle& handle, const Options& options) {
    const auto stored = meta.text(std::string(kFormatKey));
    if (!stored) return stored.error();
    if (!*stored) {
        if (handle.db().GetLatestSequenceNumber() == 0) return {};
        return meta.damaged(kFormatKey, "missing although the spool is not empty");
    }
    const auto version = decode_u32(**stored);
    if (!version) return meta.damaged(kFormatKey, "not a version");
    if (*version >= kOldestFormat && *version <= kFormatVersion) return {};
    return unusable(options,
                    fmt::format("has format {}, this program reads formats {} to {}", *version,
                                kOldestFormat, kFormatVersion),
                    "run the version that wrote it, or set another spool.dir");
}

// Format, salt and new lanes go in together: a crash leaves all or none.
Result<std::uint64_t> make_missing(const Meta& meta, const RocksHandle& handle,
                                   const Options& options, const RocksSetup& setup) {
    rocksdb::WriteBatch batch;
    auto salt = meta.number(kSaltKey);
    if (!salt) return salt.error();
    if (!*salt) {
        *salt = Xoshiro::from_system().next();
        batch.Put(rocksdb::Slice(kFormatKey), encode_u32(kFormatVersion));
        batch.Put(rocksdb::Slice(kSaltKey), encode_u64(**salt));
    }
    for (const auto& lane : setup.lanes) {
        const auto key = lane_name_key(lane.lane);
        const auto name = meta.text(key);
        if (!name) return name.error();
        if (!*name) {
            batch.Put(key, lane.name);
        } else if (**name != lane.name) {
            return unusable(options, fmt::format("{} is named {}, not {}", key, **name, lane.name),
                            "lanes keep their name; give the new one another");
        }
    }
    if (batch.Count() == 0) return **salt;
    rocksdb::WriteOptions durable;
    durable.sync = true;
    const auto status = handle.db().Write(durable, &batch);
    if (!status.ok()) {
        return unusable(options, status.ToString(), "free space or repair the volume");
    }
    return **salt;
}

// The end of a lane is written with every segment; the last key is looked at as well, because a
// number must never be given out twice.
Seq end_after_last_key(const RocksHandle& handle, rocksdb::ColumnFamilyHandle& family, Seq known) {
    const auto low = seq_key(known);
    const rocksdb::Slice low_slice(low.data(), low.size());
    auto read = make_read_options();
    read.iterate_lower_bound = &low_slice;
    const std::unique_ptr<rocksdb::Iterator> it(handle.db().NewIterator(read, &family));
    it->SeekToLast();
    if (!it->Valid()) return known;
    const auto first = parse_seq_key(it->key().ToStringView());
    if (!first) return known;
    const auto segment = decode_segment(it->value().ToStringView(), *first);
    return std::max(known, segment ? segment->end_seq() : *first + kSegmentEventsMax);
}

Result<LaneBook> load_lane(const Meta& meta, const RocksHandle& handle, LaneId lane,
                           rocksdb::ColumnFamilyHandle* family) {
    LaneBook book;
    book.family = family;
    const auto name = meta.text(lane_name_key(lane));
    if (!name) return name.error();
    // The name is written with the lane; a lane without one keeps its records all the same.
    book.name = name->value_or(fmt::format("lane-{}", static_cast<std::uint16_t>(lane)));
    book.named = name->has_value();
    const auto paused = meta.text(paused_key(lane));
    if (!paused) return paused.error();
    book.paused = *paused == kPaused;
    const auto memo = meta.text(memo_key(lane));
    if (!memo) return memo.error();
    book.memo = memo->value_or("");
    const auto cursor = meta.text(ack_key(lane));
    if (!cursor) return cursor.error();
    if (*cursor) {
        const auto decoded = decode_cursor(**cursor);
        if (!decoded) return meta.damaged(ack_key(lane), "not a cursor");
        book.cursor = *decoded;
    }
    const auto end = meta.number(end_key(lane));
    if (!end) return end.error();
    book.next_write = std::max(end->value_or(1), book.cursor.next);
    book.next_write = end_after_last_key(handle, *family, book.next_write);
    book.dropped_below = 1;
    return book;
}

Result<void> load_id_log(const Meta& meta, SpoolBook& book) {
    const auto sealed = meta.number(kSealedKey);
    if (!sealed) return sealed.error();
    const auto end = meta.number(kIdEndKey);
    if (!end) return end.error();
    book.sealed = sealed->value_or(1);
    book.next_entry = std::max(end->value_or(1), book.sealed);
    return {};
}

// The room of dead letters of accepted records, by looking at each: their number is bounded.
void count_upstream(const RocksHandle& handle, DeadUsage& usage) {
    const std::unique_ptr<rocksdb::Iterator> it(
        handle.db().NewIterator(make_read_options(), handle.family(kDeadFamily)));
    const auto begin = dead_key({DeadKind::upstream, LaneId{0}, 0});
    usage.letters = 0;
    usage.bytes = {};
    for (it->Seek({begin.data(), begin.size()}); it->Valid(); it->Next()) {
        ++usage.letters;
        usage.bytes += Bytes{it->key().size() + it->value().size()};
    }
    // Damage hides some: lanes then park that much later.
    it->status().PermitUncheckedError();
}

Result<void> load_dead(const Meta& meta, const RocksHandle& handle, const Options& options,
                       const RocksSetup& setup, SpoolBook& book) {
    const auto upstream = meta.number(kDeadUpstreamKey);
    if (!upstream) return upstream.error();
    const auto next = meta.number(kDeadNextKey);
    if (!next) return next.error();
    const auto bytes = meta.number(kDeadBytesKey);
    if (!bytes) return bytes.error();
    const auto limits = within(setup.dead, plan_disk(options));
    book.dead = {upstream->value_or(0), Bytes{bytes->value_or(0)}, limits.upstream_letters,
                 limits.upstream_bytes};
    // An older program counted no bytes, and salvage may have lost the keys but not the letters.
    if (!*upstream || !*bytes) count_upstream(handle, book.dead);
    book.admission = AdmissionLetters(limits);
    const auto end = dead_key({DeadKind::upstream, LaneId{0}, 0});
    const rocksdb::Slice end_slice(end.data(), end.size());
    auto read = make_read_options();
    read.iterate_upper_bound = &end_slice;
    const std::unique_ptr<rocksdb::Iterator> it(
        handle.db().NewIterator(read, handle.family(kDeadFamily)));
    std::vector<AdmissionLetters::Entry> stored;
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
        const auto key = parse_dead_key(it->key().ToStringView());
        if (!key) continue;
        const auto size = it->key().size() + it->value().size();
        stored.push_back({key->number, static_cast<std::uint32_t>(size), key->lane});
    }
    if (!it->status().ok()) {
        log::error("spool", "some admission dead letters cannot be read",
                   {{"cause", it->status().ToString()}});
    }
    book.admission.adopt(std::move(stored), next->value_or(1));
    return {};
}

void load_deferred(const RocksHandle& handle, SpoolBook& book) {
    const auto damaged = visit_deferred(handle, [&book](const StoredDeferred& stored) {
        const auto lane = book.lanes.find(stored.lane);
        if (lane == book.lanes.end()) return;
        const auto& record = stored.record;
        lane->second.deferred[record.seq] = {record.seq, record.due_unix_ms,
                                             record.received_unix_ms, deferred_bytes(record)};
        // A number must never be given out twice.
        lane->second.next_write = std::max(lane->second.next_write, record.seq + 1);
    });
    if (damaged == 0) return;
    log::error("spool", "some deferred records cannot be read and are given up",
               {{"places", damaged}});
}

}  // namespace

// A crash leaves the old format or the new one; both are read.
Result<void> upgrade_format(const RocksHandle& handle) {
    std::string stored;
    const auto read = handle.db().Get(make_read_options(), rocksdb::Slice(kFormatKey), &stored);
    if (!read.ok()) return rocks_error(read, "read the format");
    if (decode_u32(stored) == kFormatVersion) return {};
    rocksdb::WriteBatch batch;
    batch.Put(rocksdb::Slice(kFormatKey), encode_u32(kFormatVersion));
    rocksdb::WriteOptions durable;
    durable.sync = true;
    const auto status = handle.db().Write(durable, &batch);
    if (!status.ok()) return rocks_error(status, "write the format");
    return {};
}

void settle_doubts(rocksdb::WriteBatch& batch, const SpoolBook& book,
                   const std::set<LaneId>& rewritten) {
    for (const auto& [id, lane] : book.lanes) {
        if (!lane.commit_in_doubt || rewritten.contains(id)) continue;
        const auto key = seq_key(lane.next_write);
        batch.Delete(lane.family, {key.data(), key.size()});
        batch.Put(end_key(id), encode_u64(lane.next_write));
    }
}

Result<SpoolBook> load_book(const RocksHandle& handle, const Options& options,
                            const RocksSetup& setup) {
    OPSRELAY_ASSERT(setup.lanes.size() <= kLaneNumbersMax);
    const Meta meta(handle, options);
    if (auto fits = check_format(meta, handle, options); !fits) return fits.error();
    SpoolBook book;
    const auto salt = make_missing(meta, handle, options, setup);
    if (!salt) return salt.error();
    book.salt = *salt;
    for (const auto& [name, family] : handle.families()) {
        const auto lane = parse_segment_family(name);
        if (!lane) continue;
        auto loaded = load_lane(meta, handle, *lane, family);
        if (!loaded) return loaded.error();
        book.lanes.emplace(*lane, std::move(*loaded));
    }
    load_deferred(handle, book);
    if (auto loaded = load_id_log(meta, book); !loaded) return loaded.error();
    if (auto loaded = load_dead(meta, handle, options, setup, book); !loaded) return loaded.error();
    return book;
}

}  // namespace opsrelay::spool
