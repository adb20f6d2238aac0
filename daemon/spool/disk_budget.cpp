#include "spool/disk_budget.h"

#include <algorithm>

namespace opsrelay::spool {

DiskBudget::DiskBudget(const Options& options) {
    // The log is part of the measured directory, so only its growth by what is in flight counts.
    in_flight_ = options.write_buffers + kTableFileBytes + options.stall_buffer;
    // A small spool keeps at least half for records: it may overshoot its limit while a table is
    // written, which is better than never accepting anything.
    const auto limit = options.bytes_max.count;
    const auto headroom = std::min(in_flight_.count, limit / 2);
    refuse_above_ = Bytes{limit - headroom};
    resume_at_ = Bytes{refuse_above_.count - refuse_above_.count / 16};
}

Bytes DiskBudget::volume_reserve(Bytes volume_size) noexcept {
    return std::min(kVolumeReserveMax, Bytes{volume_size.count / 10});
}

Intake DiskBudget::decide(const StoreStats& stats) noexcept {
    const auto limit = last_ == Intake::limit_reached ? resume_at_ : refuse_above_;
    auto reserve = volume_reserve(stats.volume_size);
    if (last_ == Intake::volume_full) reserve += Bytes{reserve.count / 4};
    if (stats.volume_size.count > 0 && stats.volume_free < reserve) {
        last_ = Intake::volume_full;
    } else {
        last_ = stats.disk > limit ? Intake::limit_reached : Intake::open;
    }
    return last_;
}

}  // namespace opsrelay::spool
