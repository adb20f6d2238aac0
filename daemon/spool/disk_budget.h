// Pure: whether the spool may take in more. Refusing starts a headroom before the limit, so that
// what is under way when it starts (queued events, memory tables on their way to files, the log,
// one compaction) still fits, and ends a hysteresis later, so that it does not flap.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/enum_table.h"
#include "core/units.h"
#include "spool/options.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// What intake may do.
enum class Intake : std::uint8_t {
    open,
    limit_reached,  // the directory is a headroom away from spool.max_bytes
    volume_full     // the volume is down to its reserve
};
inline constexpr std::array<EnumName<Intake>, 3> kIntakes{{
    {Intake::open, "open"},
    {Intake::limit_reached, "limit_reached"},
    {Intake::volume_full, "volume_full"},
}};
static_assert(dense(kIntakes));
constexpr std::string_view to_string(Intake intake) { return kIntakes.at(index_of(intake)).name; }

/// The live logs together, before the memory tables behind them are written out.
inline constexpr Bytes kLogBytesMax{32U << 20U};
/// The size of one compaction output.
inline constexpr Bytes kTableFileBytes{16U << 20U};
/// Free space that is left to the rest of the volume: this or a tenth of it, whichever is less.
inline constexpr Bytes kVolumeReserveMax{64U << 20U};

/// Thread: storage.
class DiskBudget {
public:
    explicit DiskBudget(const Options& options);

    /// Decides from fresh stats; remembers the last answer. The volume counts only when its size is
    /// known (not 0).
    [[nodiscard]] Intake decide(const StoreStats& stats) noexcept;
    [[nodiscard]] Intake last() const noexcept { return last_; }

    /// Refusing starts when the directory is larger than this...
    [[nodiscard]] Bytes refuse_above() const noexcept { return refuse_above_; }
    /// ...and ends when it is at most this.
    [[nodiscard]] Bytes resume_at() const noexcept { return resume_at_; }
    /// Space of the volume that is never used.
    [[nodiscard]] static Bytes volume_reserve(Bytes volume_size) noexcept;

private:
    Bytes refuse_above_;
    Bytes resume_at_;
    Bytes in_flight_;
    Intake last_ = Intake::open;
};

}  // namespace opsrelay::spool
