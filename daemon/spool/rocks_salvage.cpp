#include "spool/rocks_salvage.h"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/utilities/debug.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "spool/deferred.h"
#include "spool/keys.h"
#include "spool/rocks_files.h"
#include "spool/rocks_log.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"
#include "spool/rocks_tables.h"
#include "spool/segment_scan.h"

namespace opsrelay::spool {
namespace {

constexpr std::size_t kBatchBytes = 1U << 20U;

rocksdb::Slice slice(std::string_view text) { return {text.data(), text.size()}; }

class Salvage {
public:
    Salvage(const RocksHandle& handle, bool with_ids);

    [[nodiscard]] Result<void> take_log(const std::string& file);
    [[nodiscard]] Result<void> take_table(const std::string& file);
    [[nodiscard]] Result<void> take_deferred(const std::string& file, std::string_view bytes);
    [[nodiscard]] Result<SalvageReport> finish();

private:
    using Family = rocksdb::ColumnFamilyHandle*;

    void put(FamilyNumber number, std::string_view key, std::string_view value);
    void put_meta(std::string_view key, std::string_view value);
    void put_ids(Family family, std::string_view key, std::string_view value);
    void put_cursor(LaneId lane, std::string_view key, std::string_view value);
    void put_segment(Family family, LaneId lane, std::string_view key, std::string_view value);
    void remove(FamilyNumber number, std::string_view key);
    [[nodiscard]] bool fits_between(Family family, const StoredSegment& segment);
    void note(LaneId lane, const StoredSegment& segment);
    void write_if_full();
    void write();
    [[nodiscard]] std::optional<std::string> get(Family family, std::string_view key);
    [[nodiscard]] bool was_deleted(Family family, std::string_view key) const;

    const RocksHandle& handle_;
    const bool with_ids_;
    std::map<FamilyNumber, Family> families_;
    std::map<std::string, LaneId, std::less<>> lane_of_ack_;
    std::map<LaneId, Cursor> cursors_;
    std::string last_end_key_;  // "end/<lane>", for a segment whose family cannot be read
    rocksdb::WriteBatch batch_;
    std::set<std::pair<LaneId, Seq>> removed_;  // segments that the batch deletes
    rocksdb::Status status_;
    SalvageReport report_;
};

Salvage::Salvage(const RocksHandle& handle, bool with_ids) : handle_(handle), with_ids_(with_ids) {
    for (const auto& [name, family] : handle.families()) {
        families_.emplace(family->GetID(), family);
        const auto lane = parse_segment_family(name);
        if (!lane) continue;
        lane_of_ack_.emplace(ack_key(*lane), *lane);
        const auto stored = get(handle.db().DefaultColumnFamily(), ack_key(*lane));
        cursors_[*lane] = (stored ? decode_cursor(*stored) : std::nullopt).value_or(Cursor{});
    }
}

std::optional<std::string> Salvage::get(Family family, std::string_view key) {
    std::string value;
    const auto status = handle_.db().Get(make_read_options(), family, slice(key), &value);
    if (!status.ok()) return std::nullopt;  // damaged is as good as missing: it is written again
    return value;
}

void Salvage::put(FamilyNumber number, std::string_view key, std::string_view value) {
    if (number == kDefaultFamilyNumber) return put_meta(key, value);
    auto known = families_.find(number);
    if (number == kUnknownFamily) {
        for (const auto& [name, family] : handle_.families()) {
            const auto lane = parse_segment_family(name);
            if (lane && end_key(*lane) == last_end_key_) known = families_.find(family->GetID());
        }
    }
    if (known == families_.end()) return;
    const auto name = known->second->GetName();
    if (const auto lane = parse_segment_family(name)) {
        put_segment(known->second, *lane, key, value);
    } else if (name == kIdLogFamily) {
        put_ids(known->second, key, value);
    } else if (name == kDeadFamily || name == kDeferredFamily) {
        batch_.Put(known->second, slice(key), slice(value));
    }
    write_if_full();
}

// The number after it follows in the same record, which may be damaged.
void Salvage::put_ids(Family family, std::string_view key, std::string_view value) {
    const auto entry = parse_seq_key(key);
    if (!entry || !with_ids_) return;
    batch_.Put(family, slice(key), slice(value));
    batch_.Put(slice(kIdEndKey), encode_u64(*entry + 1));
}

void Salvage::put_meta(std::string_view key, std::string_view value) {
    if (key == kFormatKey || key == kSaltKey)
        return;  // made with the spool, or lost with its start
    if (key.starts_with("end/")) last_end_key_ = key;
    if (const auto lane = lane_of_ack_.find(key); lane != lane_of_ack_.end()) {
        put_cursor(lane->second, key, value);
        return;
    }
    batch_.Put(slice(key), slice(value));
}

void Salvage::put_cursor(LaneId lane, std::string_view key, std::string_view value) {
    auto cursor = decode_cursor(value);
    auto& known = cursors_[lane];
    if (!cursor || cursor->next < known.next) return;
    // A log older than the tables says less of what lies ahead.
    std::vector<Seq> ahead;
    std::set_union(cursor->ahead.begin(), cursor->ahead.end(),
                   std::upper_bound(known.ahead.begin(), known.ahead.end(), cursor->next),
                   known.ahead.end(), std::back_inserter(ahead));
    cursor->ahead = std::move(ahead);
    cursor->segment = std::max(cursor->segment, known.segment);
    known = std::move(*cursor);
    batch_.Put(slice(key), encode_cursor(known));
}

void Salvage::put_segment(Family family, LaneId lane, std::string_view key,
                          std::string_view value) {
    const auto first = parse_seq_key(key);
    if (!first) return;
    const auto segment = decode_segment(value, *first);
    if (!segment || segment->end_seq() <= cursors_[lane].next) return;
    const auto there = get(family, key);
    if (there && *there == value && !removed_.contains({lane, *first})) return;
    batch_.Put(family, slice(key), slice(value));
    note(lane, *segment);
}

void Salvage::remove(FamilyNumber number, std::string_view key) {
    const auto known = families_.find(number);
    if (known == families_.end() || number == kDefaultFamilyNumber) return;
    const auto lane = parse_segment_family(known->second->GetName());
    const auto first = parse_seq_key(key);
    if (lane && first && *first < cursors_[*lane].next) return;  // settled: nobody sees it
    // A commit that was given up; the one after it has the same key.
    if (lane && first) removed_.emplace(*lane, *first);
    batch_.Delete(known->second, slice(key));
}

void Salvage::note(LaneId lane, const StoredSegment& segment) {
    ++report_.segments;
    report_.records += segment.end_seq() - std::max(segment.first_seq, cursors_[lane].next);
}

void Salvage::write_if_full() {
    if (batch_.GetDataSize() >= kBatchBytes) write();
}

void Salvage::write() {
    // Not into the log, where it would be written a second time: after a crash it is done again.
    rocksdb::WriteOptions unlogged;
    unlogged.disableWAL = true;
    if (status_.ok() && batch_.Count() > 0) status_ = handle_.db().Write(unlogged, &batch_);
    batch_.Clear();
    removed_.clear();
}

Result<void> Salvage::take_log(const std::string& file) {
    const LogVisitor visitor{
        [this](FamilyNumber number, std::string_view key, std::string_view value) {
            put(number, key, value);
        },
        [this](FamilyNumber number, std::string_view key) { remove(number, key); }};
    const auto read = visit_log(file, visitor);
    if (!read) return read.error();
    write();
    if (!status_.ok()) return rocks_error(status_, fmt::format("take back {}", file));
    report_.damaged_bytes += read->damaged_bytes + read->torn_bytes;
    return {};
}

// Nothing is there at its numbers.
bool Salvage::fits_between(Family family, const StoredSegment& segment) {
    const auto last = seq_key(segment.end_seq() - 1);
    const std::unique_ptr<rocksdb::Iterator> it(
        handle_.db().NewIterator(make_read_options(), family));
    it->SeekForPrev({last.data(), last.size()});
    if (!it->Valid()) return true;
    const auto first = parse_seq_key(it->key().ToStringView());
    if (!first) return true;
    const auto outline = read_segment_outline(it->value().ToStringView());
    const auto end = *first + (outline ? outline->count : 1);
    return end <= segment.first_seq;
}

// A deletion that the database still knows of. Errors: then it is not known of.
bool Salvage::was_deleted(Family family, std::string_view key) const {
    constexpr int kDeletion = 0;  // kTypeDeletion (db/dbformat.h)
    std::vector<rocksdb::KeyVersion> newest;
    const auto status =
        rocksdb::GetAllKeyVersions(&handle_.db(), family, slice(key), slice(key), 1, &newest);
    return status.ok() && !newest.empty() && newest.front().type == kDeletion;
}

// One that has ended since stays ended: each number is deferred once, and what deletes it goes only
// when the table that holds it does.
Result<void> Salvage::take_deferred(const std::string& file, std::string_view bytes) {
    auto* const family = handle_.family(kDeferredFamily);
    scan_deferred(bytes, [&](const StoredDeferred& stored) {
        const auto key = deferred_key(stored.lane, stored.record.seq);
        const std::string_view text(key.data(), key.size());
        if (get(family, text) || was_deleted(family, text)) return;
        batch_.Put(family, slice(text), encode_deferred(stored.lane, stored.record));
        ++report_.records;
        write_if_full();
    });
    write();
    if (!status_.ok()) return rocks_error(status_, fmt::format("take back {}", file));
    return {};
}

Result<void> Salvage::take_table(const std::string& file) {
    const auto name = family_of_table(file);
    const auto lane = parse_segment_family(name);
    const auto family = handle_.family(name);
    const bool deferred = name == kDeferredFamily;
    if ((!lane && !deferred) || family == nullptr) return {};
    const auto bytes = read_table(file);
    if (!bytes) return bytes.error();
    if (deferred) return take_deferred(file, *bytes);
    scan_segments(*bytes, [&](const FoundSegment& found) {
        const auto& segment = found.segment;
        if (segment.end_seq() <= cursors_[*lane].next || !fits_between(family, segment))
            return true;
        const auto key = seq_key(segment.first_seq);
        batch_.Put(family, {key.data(), key.size()}, slice(found.value));
        note(*lane, segment);
        write_if_full();
        return true;
    });
    write();
    if (!status_.ok()) return rocks_error(status_, fmt::format("take back {}", file));
    return {};
}

Result<SalvageReport> Salvage::finish() {
    const auto status = flush_tables(handle_, rocksdb::FlushOptions());
    if (!status.ok()) return rocks_error(status, "write out what was taken back");
    return report_;
}

}  // namespace

Result<SalvageReport> salvage_files(const RocksHandle& handle, const std::vector<std::string>& logs,
                                    const std::vector<std::string>& tables, bool with_ids) {
    Salvage salvage(handle, with_ids);
    for (const auto& log : logs) {
        if (auto taken = salvage.take_log(log); !taken) return taken.error();
    }
    for (const auto& table : tables) {
        if (auto taken = salvage.take_table(table); !taken) return taken.error();
    }
    return salvage.finish();
}

}  // namespace opsrelay::spool
