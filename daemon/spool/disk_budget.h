// Pure: whether the spool may take in more, and what gives way. Refusing starts a headroom before
// the limit, so that what is under way when it starts (queued events, memory tables on their way to
// files, the log, one compaction) still fits, and ends a hysteresis later, so that it does not
// flap.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/enum_table.h"
#include "core/units.h"
#include "spool/disk_plan.h"
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

/// Free space below which nothing is taken in: this or a tenth of the volume, whichever is less,
/// but what is under way, or a quarter of a small volume.
inline constexpr Bytes kVolumeReserveMax{64U << 20U};
/// A lane that takes less gives up nothing: what it holds is in memory tables, and dropping it
/// would give no space back. Or a sixteenth of the limit.
inline constexpr Bytes kWorthDropping{4U << 20U};

/// Thread: storage.
class DiskBudget {
public:
    explicit DiskBudget(const Options& options);

    /// Decides from fresh stats; remembers the last answer. The volume counts only when its size is
    /// known (not 0). Space that is set aside counts as free, for it can be given back.
    [[nodiscard]] Intake decide(const StoreStats& stats) noexcept;
    [[nodiscard]] Intake last() const noexcept { return last_; }

    /// Refusing starts when the directory is larger than this...
    [[nodiscard]] Bytes refuse_above() const noexcept { return plan_.refuse_above; }
    /// ...and ends when it is at most this.
    [[nodiscard]] Bytes resume_at() const noexcept { return plan_.resume_at; }
    /// Stats must be fresh after so much was committed: a sixteenth of the headroom, at most 2 MiB,
    /// or while there is much room a 64th of it, as they take a look at every file.
    [[nodiscard]] Bytes look_after(const StoreStats& stats) const noexcept;
    /// What may be written before refusing starts; 0 while it goes on.
    [[nodiscard]] Bytes room(const StoreStats& stats) const noexcept;
    /// Free space of the volume below which nothing is taken in.
    [[nodiscard]] Bytes volume_reserve(Bytes volume_size) const noexcept;

    /// Close to refusing: worth writing tables only to give space back, or dropping records.
    [[nodiscard]] bool tight(const StoreStats& stats) const noexcept;
    /// What should be set aside now, of the reserve at most half. `full`: a write has met a full
    /// volume.
    [[nodiscard]] Bytes reserve_wanted(const StoreStats& stats, bool full) const noexcept;
    /// Still tight without any record of a lane; those take `records` now. Delivering or dropping
    /// them does not open intake then, which something else must leave first.
    [[nodiscard]] bool tight_without(Bytes records, StoreStats stats) const noexcept;
    /// Whether records of a lane that takes so much may be dropped to make room.
    [[nodiscard]] bool worth_dropping(Bytes lane) const noexcept;

private:
    struct Volume {
        Bytes size;
        Bytes free;  // for others too
        Bytes ours;  // free, or set aside
        Bytes reserve;
    };
    [[nodiscard]] Volume volume(const StoreStats& stats) const noexcept;

    Bytes limit_;
    Bytes volume_bytes_;
    OnFull on_full_;
    DiskPlan plan_;
    Intake last_ = Intake::open;
};

}  // namespace opsrelay::spool
