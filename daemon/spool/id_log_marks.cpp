#include "spool/id_log_marks.h"

#include <algorithm>

namespace opsrelay::spool {

IdLogMarks::IdLogMarks(std::size_t ids_max)
    : ids_max_(ids_max), stretch_ids_(std::max<std::size_t>(1, ids_max / 8)) {}

void IdLogMarks::add(std::uint64_t number, std::size_t ids) {
    if (stretches_.empty() || stretches_.back().ids >= stretch_ids_) {
        stretches_.push_back({number, 0});
    }
    stretches_.back().ids += ids;
    ids_ += ids;
}

bool IdLogMarks::trim() {
    bool moved = false;
    while (stretches_.size() > 1 && ids_ - stretches_.front().ids >= ids_max_) {
        ids_ -= stretches_.front().ids;
        stretches_.pop_front();
        moved = true;
    }
    return moved;
}

std::uint64_t IdLogMarks::first_needed() const noexcept {
    return stretches_.empty() ? 0 : stretches_.front().first;
}

}  // namespace opsrelay::spool
