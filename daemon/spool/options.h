// How the spool is kept.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/enum_table.h"
#include "core/units.h"

namespace opsrelay::spool {

inline constexpr Bytes kSegmentRawBytesMax{512U << 10U};
inline constexpr std::size_t kSegmentEventsMax = 8192;
inline constexpr milliseconds kSegmentSpanMax{1000};
/// The size of one compaction output.
inline constexpr Bytes kTableFileBytes{16U << 20U};
/// The most that Options::write_buffers is made.
inline constexpr Bytes kWriteBuffersMax{32U << 20U};
/// Lanes that may be configured at a time: each has memory and connections of its own.
inline constexpr std::size_t kLanesMax = 16;

/// How long ids are remembered (id_plan.h), and when they move from the id log to a run.
struct IdOptions {
    milliseconds window{24 * 3'600'000};  // of running time (id_keeper.h)
    std::uint64_t ids_max = 10'000'000;   // the newest ones; whichever is less
    std::size_t seal_ids = 65'536;        // held in memory before they become a run...
    milliseconds seal_age{600'000};       // ...and for how long
    Bytes filters_max{16U << 20U};  // of memory: 16 bits an id, fewer when many are remembered
    /// Of the filter, an id; 0: by filters_max. Tests make it 1: every id is then found in the
    /// filter and has to be looked up.
    unsigned filter_bits = 0;
};

/// What gives way when the spool or its volume is nearly full.
enum class OnFull : std::uint8_t {
    refuse,      // what comes in; nothing that was accepted is given up
    drop_oldest  // the oldest records of the lane that takes the most space
};
inline constexpr std::array<EnumName<OnFull>, 2> kOnFulls{{
    {OnFull::refuse, "refuse"},
    {OnFull::drop_oldest, "drop_oldest"},
}};
static_assert(dense(kOnFulls));
constexpr std::string_view to_string(OnFull policy) { return kOnFulls.at(index_of(policy)).name; }

struct Options {
    std::string dir;               // RocksDB lives in a subdirectory of mode 0700
    Bytes bytes_max{512U << 20U};  // the whole directory; intake stops a headroom earlier
    Bytes volume_bytes;            // what the volume holds; 0: what statvfs says
    OnFull on_full = OnFull::refuse;
    milliseconds max_age{0};        // by the wall clock; older records are given up. 0: never
    milliseconds commit_gap{2};     // between the starts of two syncs; 0: none
    Bytes stall_buffer{8U << 20U};  // events in memory that wait for the disk
    Bytes dead_bytes_max{
        64U << 20U};                 // dead letters of accepted records; DiskPlan may make it less
    Bytes write_buffers{8U << 20U};  // memory tables of all lanes together; at least 6 MiB
    Bytes block_cache{2U << 20U};
    IdOptions ids;
};

/// Deferred records of all lanes together; DiskPlan bounds their bytes.
inline constexpr std::uint64_t kDeferredRecordsMax = 10'000;

/// What may change while the spool is open; the rest is fixed by how it was opened.
inline void take_limits(Options& into, const Options& from) noexcept {
    into.bytes_max = from.bytes_max;
    into.volume_bytes = from.volume_bytes;
    into.dead_bytes_max = from.dead_bytes_max;
    into.on_full = from.on_full;
    into.commit_gap = from.commit_gap;
}

}  // namespace opsrelay::spool
