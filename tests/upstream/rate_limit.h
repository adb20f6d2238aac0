// The service's own limit of requests per second, a token bucket.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

#include "core/clock.h"

namespace opsrelay::upstream {

/// Starts full. Rate and burst may differ at every call. Thread: one.
class TokenBucket {
public:
    /// Takes a token; false: there is none. `per_second` > 0, `burst` >= 1.
    [[nodiscard]] bool take(TimePoint now, double per_second, std::int64_t burst) {
        const auto room = static_cast<double>(burst);
        if (!started_) tokens_ = room;
        const std::chrono::duration<double> passed = started_ ? now - at_ : TimePoint::duration{0};
        tokens_ = std::min(room, tokens_ + passed.count() * per_second);
        at_ = now;
        started_ = true;
        if (tokens_ < 1) return false;
        tokens_ -= 1;
        return true;
    }
    /// Until the next token, rounded up to whole seconds: a Retry-After. After a take() that
    /// failed.
    [[nodiscard]] std::int64_t seconds_left(double per_second) const {
        return std::max<std::int64_t>(1, std::llround(std::ceil((1 - tokens_) / per_second)));
    }

private:
    double tokens_ = 0;
    TimePoint at_{};
    bool started_ = false;
};

}  // namespace opsrelay::upstream
