#include "spool/disk_budget.h"

#include <algorithm>

namespace opsrelay::spool {

namespace {

// A second is long enough to fill a small volume.
constexpr Bytes kLookAfterMax{2U << 20U};

}  // namespace

DiskBudget::DiskBudget(const Options& options)
    : limit_(options.bytes_max), volume_bytes_(options.volume_bytes), on_full_(options.on_full) {
    // The log is part of the measured directory, so only its growth by what is in flight counts.
    in_flight_ = options.write_buffers + kTableFileBytes + options.stall_buffer;
    // A small spool keeps at least half for records: it may overshoot its limit while a table is
    // written, which is better than never accepting anything.
    const auto limit = options.bytes_max.count;
    const auto headroom = std::min(in_flight_.count, limit / 2);
    refuse_above_ = Bytes{limit - headroom};
    resume_at_ = Bytes{refuse_above_.count - refuse_above_.count / 16};
}

Bytes DiskBudget::look_after() const noexcept {
    return Bytes{std::min(kLookAfterMax.count, (limit_.count - refuse_above_.count) / 16)};
}

Bytes DiskBudget::volume_reserve(Bytes volume_size) const noexcept {
    // On a small volume a tenth would not hold what is under way, and the engine would fail first.
    return std::max(std::min(kVolumeReserveMax, Bytes{volume_size.count / 10}),
                    std::min(in_flight_, Bytes{volume_size.count / 4}));
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
    const auto by_limit = below(refuse_above_, stats.disk);
    return at.size.count > 0 ? std::min(by_limit, below(at.ours, at.reserve)) : by_limit;
}

bool DiskBudget::tight(const StoreStats& stats) const noexcept {
    const auto at = volume(stats);
    const Bytes enough{at.reserve.count + at.reserve.count / 4};
    return stats.disk > resume_at_ || (at.size.count > 0 && at.ours < enough);
}

Bytes DiskBudget::reserve_wanted(const StoreStats& stats, bool full) const noexcept {
    const auto at = volume(stats);
    const auto file =
        std::min({kReserveFileMax, Bytes{at.reserve.count / 2}, Bytes{limit_.count / 16}});
    if (full || at.size.count == 0) return {};
    if (stats.reserve.count > 0) return at.free < file ? Bytes{} : stats.reserve;
    return tight(stats) ? Bytes{} : file;
}

bool DiskBudget::worth_dropping(Bytes lane) const noexcept {
    return on_full_ == OnFull::drop_oldest &&
           lane >= std::min(kWorthDropping, Bytes{limit_.count / 16});
}

Intake DiskBudget::decide(const StoreStats& stats) noexcept {
    const auto limit = last_ == Intake::limit_reached ? resume_at_ : refuse_above_;
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
