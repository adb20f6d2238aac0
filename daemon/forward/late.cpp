#include "forward/late.h"

#include <chrono>
#include <ratio>

#include "core/units.h"

namespace opsrelay::forward {

namespace {

// std::chrono::days counts in int, which a damaged time would overflow.
using LongDays = std::chrono::duration<std::int64_t, std::ratio<86'400>>;

LongDays day_of(std::int64_t at_unix_ms) noexcept {
    return std::chrono::floor<LongDays>(milliseconds{at_unix_ms});
}

std::chrono::year_month month_of(LongDays day) noexcept {
    const std::chrono::sys_days date{std::chrono::days{static_cast<int>(day.count())}};
    const std::chrono::year_month_day civil{date};
    return civil.year() / civil.month();
}

}  // namespace

Lateness lateness(std::int64_t received_unix_ms, std::int64_t delivered_unix_ms) noexcept {
    constexpr LongDays kLongestMonth{31};
    const auto from = day_of(received_unix_ms);
    const auto to = day_of(delivered_unix_ms);
    if (to <= from) return {};
    const bool month = to - from >= kLongestMonth || month_of(from) != month_of(to);
    return {.day = true, .month = month};
}

LateCounter::LateCounter(observe::Registry& registry)
    : all_day_(registry.counter(observe::kEventsLate, kBoundaries[index_of(Boundary::day)].name)),
      all_month_(
          registry.counter(observe::kEventsLate, kBoundaries[index_of(Boundary::month)].name)) {}

void LateCounter::note_delivered(std::int64_t received_unix_ms,
                                 std::int64_t delivered_unix_ms) noexcept {
    const auto late = lateness(received_unix_ms, delivered_unix_ms);
    if (!late.day) return;
    all_day_.add();
    day_.fetch_add(1, std::memory_order_relaxed);
    if (!late.month) return;
    all_month_.add();
    month_.fetch_add(1, std::memory_order_release);
}

LateCounts LateCounter::counts() const noexcept {
    const auto month = month_.load(std::memory_order_acquire);  // first: never more than of days
    return {.day = day_.load(std::memory_order_relaxed), .month = month};
}

}  // namespace opsrelay::forward
