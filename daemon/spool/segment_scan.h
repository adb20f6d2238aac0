// Pure: finds stored segments in bytes whose structure is damaged: a piece of a log, a table
// without its footer. A segment says where it begins and has a checksum of its own, so nothing else
// is needed but its length, which stands before it.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "spool/segment.h"

namespace opsrelay::spool {

struct FoundSegment {
    StoredSegment segment;   // its checksum holds
    std::string_view value;  // as stored
    std::size_t at = 0;      // of `value` in the bytes
};
/// Visits every whole segment in `bytes`, in order, while `visit` returns true; it may move from
/// what it gets.
void scan_segments(std::string_view bytes, const std::function<bool(FoundSegment&)>& visit);

}  // namespace opsrelay::spool
