// Gives space back: whole files instead of keys. Used by RocksStore only.
#pragma once

#include <cstdint>

namespace rocksdb {
class ColumnFamilyHandle;
class Status;
}  // namespace rocksdb

namespace opsrelay::spool {

class RocksHandle;

/// Drops the files that lie wholly below entry `below`. Works on a full volume. Files of level 0
/// are left to the next compaction.
[[nodiscard]] rocksdb::Status drop_files(const RocksHandle& handle,
                                         rocksdb::ColumnFamilyHandle* family, std::uint64_t below);
/// As drop_files(), after moving files of level 0 down.
[[nodiscard]] rocksdb::Status move_and_drop_files(const RocksHandle& handle,
                                                  rocksdb::ColumnFamilyHandle* family,
                                                  std::uint64_t below);
/// Writes every memory table to files, so that the logs before them can go.
[[nodiscard]] rocksdb::Status flush_tables(const RocksHandle& handle);

}  // namespace opsrelay::spool
