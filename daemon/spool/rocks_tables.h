// Tables that are missing or damaged, and tables that RocksDB forgot. Used when a database is
// opened.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "spool/options.h"
#include "spool/quarantine.h"

namespace rocksdb {
struct ColumnFamilyDescriptor;
struct DBOptions;
}  // namespace rocksdb

namespace opsrelay::spool {

/// A table that was replaced by an empty one.
struct LostTable {
    std::string file;
    std::string family;
    std::uint64_t bytes = 0;  // as the manifest says
    std::string why;
};

/// RocksDB opens nothing when one table is missing, cut or cannot be read from its end. Each such
/// table of the closed database is kept in `quarantine` as far as it is there, and an empty one of
/// the same size takes its place, so that only what it held is lost. Durable, and may be done
/// again after a crash. Errors: spool_io: a table cannot be read or written because of the disk, so
/// nothing says that it is damaged; spool_corrupt: the manifest cannot be read either.
[[nodiscard]] Result<std::vector<LostTable>> replace_damaged_tables(
    const Options& options, const rocksdb::DBOptions& db,
    const std::vector<rocksdb::ColumnFamilyDescriptor>& families, Quarantine& quarantine);

/// RocksDB deletes tables that its manifest does not name as soon as it is opened, or writes over
/// them. When the manifest lost its end these are good ones. So those whose number it has not given
/// out yet are moved to Options::dir/tables before, and looked through behind. Of a crash that came
/// before a new table was named the same is found in the log; deferred records only there.
void set_forgotten_tables_aside(const Options& options);

/// The tables in a directory, oldest first.
[[nodiscard]] std::vector<std::string> table_files(const std::string& dir);

/// The family that a table belongs to: as its name says when it was kept ("seg_0-000012.sst"), else
/// by its own account, however little of it can be read. Empty: not known.
[[nodiscard]] std::string family_of_table(const std::string& path);

/// The bytes of a table, for scan_segments(). Errors: io.
[[nodiscard]] Result<std::string> read_table(const std::string& path);

}  // namespace opsrelay::spool
