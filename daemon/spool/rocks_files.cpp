#include "spool/rocks_files.h"

#include <rocksdb/convenience.h>
#include <rocksdb/db.h>

#include <string_view>
#include <vector>

#include "core/log.h"
#include "spool/keys.h"
#include "spool/rocks_open.h"
#include "spool/rocks_state.h"

namespace opsrelay::spool {

Bytes family_bytes(const RocksHandle& handle, rocksdb::ColumnFamilyHandle* family) {
    Bytes bytes;
    for (const auto& property : {rocksdb::DB::Properties::kLiveSstFilesSize,
                                 rocksdb::DB::Properties::kCurSizeAllMemTables}) {
        std::uint64_t part = 0;
        if (handle.db().GetIntProperty(family, property, &part)) bytes += Bytes{part};
    }
    return bytes;
}

rocksdb::Status drop_files(const RocksHandle& handle, rocksdb::ColumnFamilyHandle* family,
                           std::uint64_t below) {
    const auto key = seq_key(below);
    const rocksdb::Slice end(key.data(), key.size());
    return rocksdb::DeleteFilesInRange(&handle.db(), family, nullptr, &end, false);
}

rocksdb::Status move_and_drop_files(const RocksHandle& handle, rocksdb::ColumnFamilyHandle* family,
                                    std::uint64_t below) {
    const auto key = seq_key(below);
    const rocksdb::Slice end(key.data(), key.size());
    rocksdb::CompactRangeOptions options;
    options.exclusive_manual_compaction = false;
    const auto status = handle.db().CompactRange(options, family, nullptr, &end);
    if (!status.ok()) return status;
    return drop_files(handle, family, below);
}

rocksdb::Status flush_tables(const RocksHandle& handle, const rocksdb::FlushOptions& options) {
    std::vector<rocksdb::ColumnFamilyHandle*> families;
    for (const auto& [name, family] : handle.families()) families.push_back(family);
    return handle.db().Flush(options, families);
}

namespace {

// Only the oldest file of all may go by itself; what it hides would come back otherwise.
void drop_settled_level0(const RocksHandle& handle, rocksdb::ColumnFamilyHandle* family,
                         std::uint64_t below) {
    const auto key = seq_key(below);
    const std::string_view end(key.data(), key.size());
    while (true) {
        rocksdb::ColumnFamilyMetaData all;
        handle.db().GetColumnFamilyMetaData(family, &all);
        for (std::size_t level = 1; level < all.levels.size(); ++level) {
            if (!all.levels[level].files.empty()) return;
        }
        if (all.levels.empty() || all.levels[0].files.empty()) return;
        const auto& oldest = all.levels[0].files.back();
        if (oldest.being_compacted || oldest.largestkey >= end) return;
        const auto status = handle.db().DeleteFile(oldest.name);
        if (!status.ok()) {
            log::warn("spool", "a file of settled records stays for now",
                      {{"file", oldest.name}, {"cause", status.ToString()}});
            return;
        }
    }
}

}  // namespace

bool stop_compactions(const RocksHandle& handle) {
    log::error("spool", "a table is damaged; compactions are off until the next start",
               {{"next", "its records are reported as lost when they are read"}});
    for (const auto& [name, family] : handle.families()) {
        const auto status = handle.db().SetOptions(family, {{"disable_auto_compactions", "true"}});
        if (status.ok()) continue;
        log::error("spool", "compactions could not be turned off",
                   {{"family", name}, {"cause", status.ToString()}});
        return false;
    }
    return true;
}

void drop_settled(const RocksHandle& handle, SpoolBook& book, bool level0) {
    for (auto& [id, lane] : book.lanes) {
        lane.settled_records = 0;
        lane.read_bytes = {};
        if (lane.dropped_below == lane.cursor.segment) continue;
        const auto status = drop_files(handle, lane.family, lane.cursor.segment);
        if (status.ok()) {
            if (level0) drop_settled_level0(handle, lane.family, lane.cursor.segment);
            lane.dropped_below = lane.cursor.segment;
            continue;
        }
        log::warn("spool", "files of settled records stay for now; tried again with the next ones",
                  {{"lane", static_cast<std::uint16_t>(id)}, {"cause", status.ToString()}});
    }
}

bool give_back_all(const RocksHandle& handle, const SpoolBook& book) {
    auto status = flush_tables(handle, rocksdb::FlushOptions());
    for (const auto& [id, lane] : book.lanes) {
        if (!status.ok()) break;
        status = move_and_drop_files(handle, lane.family, lane.cursor.segment);
    }
    if (status.ok()) {
        status = move_and_drop_files(handle, handle.family(kIdLogFamily), book.sealed);
    }
    if (status.ok()) return true;
    log::warn("spool", "no space could be given back; tried again with the next sync",
              {{"cause", status.ToString()}});
    return false;
}

}  // namespace opsrelay::spool
