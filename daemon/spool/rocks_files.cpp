#include "spool/rocks_files.h"

#include <rocksdb/convenience.h>
#include <rocksdb/db.h>

#include <vector>

#include "spool/keys.h"
#include "spool/rocks_open.h"

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

}  // namespace opsrelay::spool
