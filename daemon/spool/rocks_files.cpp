#include "spool/rocks_files.h"

#include <rocksdb/convenience.h>
#include <rocksdb/db.h>

#include <vector>

#include "core/log.h"
#include "spool/keys.h"
#include "spool/rocks_open.h"
#include "spool/rocks_state.h"

namespace opsrelay::spool {

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

rocksdb::Status flush_tables(const RocksHandle& handle) {
    std::vector<rocksdb::ColumnFamilyHandle*> families;
    for (const auto& [name, family] : handle.families()) families.push_back(family);
    return handle.db().Flush(rocksdb::FlushOptions(), families);
}

void drop_settled(const RocksHandle& handle, SpoolBook& book) {
    for (auto& [id, lane] : book.lanes) {
        lane.settled_records = 0;
        lane.read_bytes = {};
        if (lane.dropped_below == lane.cursor.segment) continue;
        const auto status = drop_files(handle, lane.family, lane.cursor.segment);
        if (status.ok()) {
            lane.dropped_below = lane.cursor.segment;
            continue;
        }
        log::warn("spool", "files of settled records stay for now; tried again with the next ones",
                  {{"lane", static_cast<std::uint16_t>(id)}, {"cause", status.ToString()}});
    }
}

bool give_back_all(const RocksHandle& handle, const SpoolBook& book) {
    auto status = flush_tables(handle);
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
