// Pure: what is asked of RocksDB's manifest without opening it. It is a log
// (wal_reader.h) of edits: fields of a tag and a value each (db/version_edit.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace opsrelay::spool {

struct ManifestNumbers {
    std::uint64_t next_file = 0;  // no file that the manifest names has this number or a higher one
    std::uint64_t log = 0;        // there is a log of this number or a higher one
};
/// nullopt: the manifest of `database` cannot be read.
[[nodiscard]] std::optional<ManifestNumbers> manifest_numbers(const std::string& database);

/// A power loss may tear the last edit, which RocksDB takes for damage of all. Cuts it off,
/// durably, when it is the last thing that is damaged and something whole lies before it. Returns
/// the bytes that were cut off; 0: nothing was to be done, or it could not be.
[[nodiscard]] std::uint64_t cut_torn_edit(const std::string& database);

/// Of "000012.sst" and the like; 0: not such a name.
[[nodiscard]] std::uint64_t file_number(const std::string& path);

/// CURRENT says which manifest counts. When it does not name one that exists, it names the newest
/// that is whole, durably. True: it was written.
[[nodiscard]] bool restore_current(const std::string& database);

}  // namespace opsrelay::spool
