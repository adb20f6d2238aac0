#include "spool/disk_budget.h"

#include <algorithm>

namespace opsrelay::spool {

namespace {

// A second is long enough to fill a small volume.
constexpr Bytes kLookAfterMax{2U << 20U};

}  // namespace

DiskBudget::DiskBudget(const Options& options)
    : limit_(options.bytes_max),
      volume_bytes_(options.volume_bytes),
      on_full_(options.on_full),
      plan_(plan_disk(options)) {}

Bytes DiskBudget::look_after(const StoreStats& stats) const noexcept {
    const Bytes headroom = limit_ - plan_.refuse_above;
    return std::max(std::min(kLookAfterMax, Bytes{headroom.count / 16}),
                    Bytes{room(stats).count / 64});
}

Bytes DiskBudget::volume_reserve(Bytes volume_size) const noexcept {
    // On a small volume a tenth would not hold what is under way, and the engine would fail first.
    return std::max(std::min(kVolumeReserveMax, Bytes{volume_size.count / 10}),
                    std::min(plan_.under_way, Bytes{volume_size.count / 4}));
}

DiskBudget::Volume DiskBudget::volume(const StoreStats& stats) const noexcept {
    Volume volume{stats.volume_size, stats.volume_free, {}, {}};
    if (volume_bytes_.count > 0) {
        // What is said to be there is ours alone; the real one may still be fuller.
        const Bytes left{volume_bytes_.count - std::min(volume_bytes_, stats.disk).count};
        volume.free = stats.volume_size.count > 0 ? std::min(stats.volume_free, left) : left;
        volume.size = volume_bytes_;
    }
    volume.ours = volume.free + stats.reserve;
    volume.reserve = volume_reserve(volume.size);
    return volume;
}

Bytes DiskBudget::room(const StoreStats& stats) const noexcept {
    const auto below = [](Bytes most, Bytes now) { return most - std::min(most, now); };
    const auto at = volume(stats);
    const auto by_limit = below(plan_.refuse_above, stats.disk);
    return at.size.count > 0 ? std::min(by_limit, below(at.ours, at.reserve)) : by_limit;
}

bool DiskBudget::tight(const StoreStats& stats) const noexcept {
    const auto at = volume(stats);
    const Bytes enough{at.reserve.count + at.reserve.count / 4};
    return stats.disk > plan_.resume_at || (at.size.count > 0 && at.ours < enough);
}

bool DiskBudget::tight_without(Bytes records, StoreStats stats) const noexcept {
    const auto given_back = std::min(records, stats.disk);
    stats.disk = stats.disk - given_back;
    stats.volume_free += given_back;
    return tight(stats);
}

Bytes DiskBudget::reserve_wanted(const StoreStats& stats, bool full) const noexcept {
    const auto at = volume(stats);
    const auto file = std::min(plan_.set_aside, Bytes{at.reserve.count / 2});
    if (full || at.size.count == 0) return {};
    if (stats.reserve.count > 0) return at.free < file ? Bytes{} : stats.reserve;
    return tight(stats) ? Bytes{} : file;
}

bool DiskBudget::worth_dropping(Bytes lane) const noexcept {
    return on_full_ == OnFull::drop_oldest &&
           lane >= std::min(kWorthDropping, Bytes{limit_.count / 16});
}

Intake DiskBudget::decide(const StoreStats& stats) noexcept {
    const auto limit = last_ == Intake::limit_reached ? plan_.resume_at : plan_.refuse_above;
    const auto at = volume(stats);
    auto reserve = at.reserve;
    if (last_ == Intake::volume_full) reserve += Bytes{reserve.count / 4};
    if (at.size.count > 0 && at.ours < reserve) {
        last_ = Intake::volume_full;
    } else {
        last_ = stats.disk > limit ? Intake::limit_reached : Intake::open;
    }
    return last_;
}

}  // namespace opsrelay::spool
