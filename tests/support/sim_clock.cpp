#include "support/sim_clock.h"

namespace opsrelay::test {

namespace {
constexpr auto kStart = std::chrono::sys_days{std::chrono::year{2026} / 1 / 1};
}

SimClock::SimClock() : SimClock(kStart) {}

SimClock::SimClock(WallTime wall_start)
    : now_(TimePoint{} + hours{1}), start_(now_), wall_start_(wall_start) {}

WallTime SimClock::wall_now() const noexcept {
    return wall_start_ +
           std::chrono::duration_cast<WallTime::duration>(now_ - start_ + wall_offset_);
}

void SimClock::arm(asio::steady_timer& timer, TimePoint due) {
    disarm(timer);
    timer.expires_at(TimePoint::max());
    const Key key{due, ++arrivals_};
    queue_.emplace(key, &timer);
    keys_.emplace(&timer, key);
}

void SimClock::disarm(asio::steady_timer& timer) noexcept {
    const auto found = keys_.find(&timer);
    if (found == keys_.end()) return;
    queue_.erase(found->second);
    keys_.erase(found);
}

std::optional<TimePoint> SimClock::next_due() const {
    if (queue_.empty() || queue_.begin()->first.first == TimePoint::max()) return std::nullopt;
    return queue_.begin()->first.first;
}

bool SimClock::step() {
    const auto due = next_due();
    if (!due) return false;
    if (*due > now_) now_ = *due;
    auto* timer = queue_.begin()->second;
    disarm(*timer);
    // Ends a pending wait and every later one at once: the wait may not have begun yet.
    timer->expires_at(TimePoint::min());
    return true;
}

}  // namespace opsrelay::test
