// What a write log holds, around damage. Used to take records back from a log that RocksDB does not
// replay, and to look into one offline.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace opsrelay::spool {

/// RocksDB's number of a family, by which logs call it. The default family is 0.
using FamilyNumber = std::uint32_t;
inline constexpr FamilyNumber kDefaultFamilyNumber = 0;
/// Of a segment whose family cannot be read; the put of "end/<lane>" just before says which.
inline constexpr FamilyNumber kUnknownFamily = 0xFFFF'FFFF;

/// Receives the changes of a log in their order; what it gets is valid during the call.
struct LogVisitor {
    std::function<void(FamilyNumber, std::string_view key, std::string_view value)> put;
    std::function<void(FamilyNumber, std::string_view key)> remove;
};

struct LogReport {
    std::uint64_t records = 0;
    std::uint64_t damaged_records = 0;  // of the above: not whole
    std::uint64_t damaged_bytes = 0;
    std::uint64_t torn_bytes = 0;  // at the end: a crash
};

/// Of a record that is not whole only segments whose own checksum holds are visited, with the end
/// of their lane and their ids where those follow. Errors: io.
[[nodiscard]] Result<LogReport> visit_log(const std::string& file, const LogVisitor& visitor);

}  // namespace opsrelay::spool
