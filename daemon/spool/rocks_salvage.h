// Takes back what the kept files of a mishap still hold: the changes of logs that were not
// replayed, the segments of tables that could not be read or were forgotten. Runs at start, before
// anything is written, so that every number still means what it meant.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace opsrelay::spool {

class RocksHandle;

struct SalvageReport {
    std::uint64_t segments = 0;       // taken back
    std::uint64_t records = 0;        // in them, and deferred ones of damaged tables
    std::uint64_t damaged_bytes = 0;  // of logs: in no record that could be taken
};

/// Reads logs oldest first, then tables; a log's damaged records and a table are searched for
/// segments and deferred records whose own checksum holds. Segments that are there already or that
/// lie wholly below their lane's cursor are left out; cursors only move forward; a table's segment
/// never replaces one. `with_ids`: the salt is the one that the ids were made with. Done again
/// after a crash it changes nothing. Synced. Errors: as classify(); io.
[[nodiscard]] Result<SalvageReport> salvage_files(const RocksHandle& handle,
                                                  const std::vector<std::string>& logs,
                                                  const std::vector<std::string>& tables,
                                                  bool with_ids);

}  // namespace opsrelay::spool
