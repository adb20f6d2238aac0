// Gives space back: whole files instead of keys. Used by RocksStore only.
#pragma once

#include <cstdint>

#include "core/units.h"

namespace rocksdb {
class ColumnFamilyHandle;
class Status;
struct FlushOptions;
}  // namespace rocksdb

namespace opsrelay::spool {

class RocksHandle;
struct SpoolBook;

/// Space that a family takes, in files and in memory tables.
[[nodiscard]] Bytes family_bytes(const RocksHandle& handle, rocksdb::ColumnFamilyHandle* family);
/// Drops the files that lie wholly below entry `below`. Works on a full volume. Files of level 0
/// are left to the next compaction.
[[nodiscard]] rocksdb::Status drop_files(const RocksHandle& handle,
                                         rocksdb::ColumnFamilyHandle* family, std::uint64_t below);
/// As drop_files(), after moving files of level 0 down.
[[nodiscard]] rocksdb::Status move_and_drop_files(const RocksHandle& handle,
                                                  rocksdb::ColumnFamilyHandle* family,
                                                  std::uint64_t below);
/// Writes every memory table to files, so that the logs before them can go.
[[nodiscard]] rocksdb::Status flush_tables(const RocksHandle& handle,
                                           const rocksdb::FlushOptions& options);

/// Drops the files of settled segments in every lane. What cannot be dropped now is logged. With
/// `level0` those of level 0 too, oldest first: when compactions are stopped nothing moves them
/// down.
void drop_settled(const RocksHandle& handle, SpoolBook& book, bool level0);
/// No compaction begins until the next open: one would meet the same damage again, for ever. False:
/// that did not work, logged.
[[nodiscard]] bool stop_compactions(const RocksHandle& handle);
/// Gives back space that is held only by the log, by level 0 or by half-settled tables: worth the
/// writes near the limit, where it decides whether intake may go on. False: not all of it, logged.
[[nodiscard]] bool give_back_all(const RocksHandle& handle, const SpoolBook& book);

}  // namespace opsrelay::spool
