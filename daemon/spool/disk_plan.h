// Pure: how the directory of a spool is shared out. What stays there when every record has been
// delivered (ids, dead letters, what is set aside) has bounds that fit together: intake is open
// then, however much of everything there is.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/units.h"
#include "spool/options.h"

namespace opsrelay::spool {

/// The live logs together, before the memory tables behind them are written out.
inline constexpr Bytes kLogBytesMax{32U << 20U};
/// On disk, of a remembered id: 18, a generation more while it is merged.
inline constexpr std::uint64_t kDiskBytesPerId = 24;

struct DiskPlan {
    /// What may be under way when intake closes: queued events, memory tables on their way to
    /// files, one compaction. The log is part of the measured directory.
    Bytes under_way;
    Bytes refuse_above;  // intake closes when the directory is larger than this...
    Bytes resume_at;     // ...and opens again when it is at most this

    std::uint64_t ids = 1;  // that are remembered
    Bytes dead;             // letters of accepted records, at which lanes stop making more of them
    Bytes dead_admission;   // letters of events that were not accepted
    Bytes deferred;         // records of all lanes: what a start reads, so well below a spool
    Bytes set_aside;        // in a file, for a volume that is full
    Bytes quarantines;      // of files whose records were taken back
    Bytes manifest;         // of the engine, before it writes it anew
};

/// Depends on bytes_max, stall_buffer, ids.ids_max and dead_bytes_max; what is under way, and when
/// intake closes, on write_buffers too. The memory plan makes those, after this one.
[[nodiscard]] constexpr DiskPlan plan_disk(const Options& options) noexcept {
    // A small spool keeps half for what stays: it may overshoot its limit while a table is written,
    // which is better than never accepting anything.
    const auto below_headroom = [&](Bytes under_way) {
        return options.bytes_max - std::min(under_way, Bytes{options.bytes_max.count / 2});
    };
    const auto below_hysteresis = [](Bytes most) { return most - Bytes{most.count / 16}; };
    DiskPlan plan;
    plan.under_way = options.write_buffers + kTableFileBytes + options.stall_buffer;
    plan.refuse_above = below_headroom(plan.under_way);
    plan.resume_at = below_hysteresis(plan.refuse_above);

    const auto shared =
        below_hysteresis(below_headroom(kWriteBuffersMax + kTableFileBytes + options.stall_buffer));
    // In 64ths. Six are left, for records and the engine's own files while all of these are at
    // their bound. A default spool has room for the most of everything.
    const auto part = [shared](std::uint64_t of_64) { return Bytes{shared.count / 64 * of_64}; };
    constexpr Bytes kMost{16U << 20U};
    plan.ids = std::clamp<std::uint64_t>(part(35).count / kDiskBytesPerId, 1, options.ids.ids_max);
    plan.dead = std::min(options.dead_bytes_max, part(10));
    plan.dead_admission = std::min(kMost, part(3));
    plan.deferred = std::min(kMost, part(3));
    plan.set_aside = std::min(kMost, part(3));
    plan.quarantines = part(3);
    plan.manifest = std::clamp(part(1), Bytes{16U << 10U}, Bytes{64U << 20U});
    return plan;
}

}  // namespace opsrelay::spool
