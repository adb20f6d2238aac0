#include "observe/outage_forecast.h"

#include <chrono>
#include <limits>

namespace opsrelay::observe {

void OutageForecast::note(TimePoint now, Bytes written) {
    // The newest one stands for "now" until it is far enough from the one before.
    const auto count = samples_.size();
    if (count >= 2 && samples_[count - 1].at - samples_[count - 2].at < kSampleEvery) {
        samples_.back() = {now, written};
    } else {
        samples_.push_back({now, written});
    }
    while (samples_.size() > 2 && now - samples_[1].at >= kWindow) samples_.pop_front();
}

double OutageForecast::seconds_left(Bytes room) const noexcept {
    constexpr auto kForever = std::numeric_limits<double>::infinity();
    if (samples_.size() < 2) return kForever;
    const auto& first = samples_.front();
    const auto& last = samples_.back();
    const auto span = std::chrono::duration<double>(last.at - first.at).count();
    const auto bytes = last.written.count - first.written.count;
    if (span <= 0 || bytes == 0) return kForever;
    return static_cast<double>(room.count) * span / static_cast<double>(bytes);
}

}  // namespace opsrelay::observe
