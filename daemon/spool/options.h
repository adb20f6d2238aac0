// How the spool is kept.
#pragma once

#include <string>

#include "core/units.h"

namespace opsrelay::spool {

inline constexpr Bytes kSegmentRawBytesMax{512U << 10U};
inline constexpr std::size_t kSegmentEventsMax = 8192;
inline constexpr milliseconds kSegmentSpanMax{1000};

struct Options {
    std::string dir;                // RocksDB lives in a subdirectory of mode 0700
    Bytes bytes_max{512U << 20U};   // the whole directory; intake stops a headroom earlier
    milliseconds commit_gap{2};     // between the starts of two syncs; 0: none
    Bytes stall_buffer{8U << 20U};  // events in memory that wait for the disk
    /// Ids kept in the id log for the next start; at least what admission remembers.
    std::size_t ids_max = 262'144;
};

}  // namespace opsrelay::spool
