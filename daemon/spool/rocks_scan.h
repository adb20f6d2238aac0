// Goes through numbered entries in order, around what cannot be read. Used by RocksStore only.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "core/error.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
}  // namespace rocksdb

namespace opsrelay::spool {

/// Receives an entry's number and value; the value is valid during the call.
using EntryVisitor = std::function<void(std::uint64_t number, std::string_view value)>;

/// Visits every readable entry with a number in [low, end), in order. Returns whether some could
/// not be read. Errors: as classify(), never spool_corrupt.
[[nodiscard]] Result<bool> visit_entries(rocksdb::DB& db, rocksdb::ColumnFamilyHandle& family,
                                         std::uint64_t low, std::uint64_t end,
                                         const EntryVisitor& visit);

}  // namespace opsrelay::spool
