// How RocksDB is configured; README.md says why.
#pragma once

#include <memory>
#include <string_view>

#include "core/units.h"

namespace rocksdb {
class Cache;
struct ColumnFamilyOptions;
struct DBOptions;
struct Options;
struct ReadOptions;
}  // namespace rocksdb

namespace opsrelay::spool {

struct Options;

/// The one block cache, shared by every family.
[[nodiscard]] std::shared_ptr<rocksdb::Cache> make_block_cache(const Options& options);
/// Everything but env, listeners and recovery mode.
[[nodiscard]] rocksdb::DBOptions make_db_options(const Options& options);
/// The size at which RocksDB writes a family's memory table out.
[[nodiscard]] Bytes write_buffer_bytes(std::string_view family, const Options& options) noexcept;
/// By name: the default family, the id log, id runs, dead letters; anything else is a segment
/// family. `cache`: nullptr for files that are read outside of the database.
[[nodiscard]] rocksdb::ColumnFamilyOptions make_family_options(
    std::string_view family, const Options& options, const std::shared_ptr<rocksdb::Cache>& cache);
/// For a family's files that are written or read outside of the database.
[[nodiscard]] rocksdb::Options make_file_options(std::string_view family);
/// For short-lived iterators: checksums verified, the cache left alone.
[[nodiscard]] rocksdb::ReadOptions make_read_options();

}  // namespace opsrelay::spool
