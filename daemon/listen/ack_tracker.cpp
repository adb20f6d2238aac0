#include "listen/ack_tracker.h"

#include <algorithm>

namespace opsrelay::listen {

void AckTracker::add_waiting(Position position) {
    if (runs_.empty() && position <= durable_) {
        ++counts_.durable;
        return;
    }
    ++lines_;
    if (!runs_.empty()) {
        auto& last = runs_.back();
        if (last.shape == Shape::ascending && position == last.first + last.lines) {
            ++last.lines;
            return;
        }
        if (last.shape != Shape::rejected && position == last.first &&
            (last.shape == Shape::level || last.lines == 1)) {
            last.shape = Shape::level;
            ++last.lines;
            return;
        }
    }
    runs_.push_back({Shape::ascending, 1, position});
}

void AckTracker::add_rejected() {
    if (runs_.empty()) {
        ++counts_.rejected;
        return;
    }
    ++lines_;
    if (runs_.back().shape == Shape::rejected) {
        ++runs_.back().lines;
    } else {
        runs_.push_back({Shape::rejected, 1, 0});
    }
}

bool AckTracker::settle(Position durable) {
    durable_ = std::max(durable_, durable);
    return drain();
}

bool AckTracker::confirm(Position position) {
    if (front() != position) return false;
    auto& run = runs_.front();
    pop_lines(run, run.shape == Shape::level ? run.lines : 1);
    drain();
    return true;
}

std::optional<Position> AckTracker::front() const noexcept {
    if (runs_.empty()) return std::nullopt;
    return runs_.front().first;
}

void AckTracker::pop_lines(Run& run, std::uint32_t lines) {
    (run.shape == Shape::rejected ? counts_.rejected : counts_.durable) += lines;
    if (run.shape == Shape::ascending) run.first += lines;
    run.lines -= lines;
    lines_ -= lines;
    if (run.lines == 0) runs_.pop_front();
}

// A rejected run is never left at the front, so front() always names a position.
bool AckTracker::drain() {
    const auto before = lines_;
    while (!runs_.empty()) {
        auto& run = runs_.front();
        if (run.shape == Shape::rejected) {
            pop_lines(run, run.lines);
        } else if (run.first > durable_) {
            break;
        } else if (run.shape == Shape::level) {
            pop_lines(run, run.lines);
        } else {
            const auto ready = std::min<Position>(run.lines, durable_ - run.first + 1);
            pop_lines(run, static_cast<std::uint32_t>(ready));
        }
    }
    return lines_ != before;
}

}  // namespace opsrelay::listen
