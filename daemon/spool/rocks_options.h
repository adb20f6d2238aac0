// How RocksDB is configured; README.md says why.
#pragma once

#include <memory>
#include <string_view>

#include "core/units.h"

namespace rocksdb {
class Cache;
struct ColumnFamilyOptions;
struct DBOptions;
struct ReadOptions;
}  // namespace rocksdb

namespace opsrelay::spool {

/// The one block cache, shared by every family.
[[nodiscard]] std::shared_ptr<rocksdb::Cache> make_block_cache();
/// Everything but env, listeners and recovery mode.
[[nodiscard]] rocksdb::DBOptions make_db_options();
/// The size at which a family's memory table is written out.
[[nodiscard]] Bytes write_buffer_bytes(std::string_view family) noexcept;
/// By name: the default family, the id log, id runs, dead letters; anything else is a segment
/// family. `cache`: nullptr for files that are read outside of the database.
[[nodiscard]] rocksdb::ColumnFamilyOptions make_family_options(
    std::string_view family, const std::shared_ptr<rocksdb::Cache>& cache);
/// For short-lived iterators: checksums verified, the cache left alone.
[[nodiscard]] rocksdb::ReadOptions make_read_options();

}  // namespace opsrelay::spool
