#include "core/time_stamp.h"

#include <algorithm>
#include <chrono>

namespace opsrelay {

namespace {

void put_digits(char* end, unsigned value, int count) noexcept {
    for (; count > 0; --count, value /= 10) *--end = static_cast<char>('0' + value % 10);
}

constexpr std::int64_t kFirstMs = -62'135'596'800'000;  // 0001-01-01T00:00:00.000Z
constexpr std::int64_t kLastMs = 253'402'300'799'999;   // 9999-12-31T23:59:59.999Z

}  // namespace

TimeStamp::TimeStamp(std::int64_t unix_ms) noexcept {
    const milliseconds since_epoch{std::clamp(unix_ms, kFirstMs, kLastMs)};
    const auto days = std::chrono::floor<std::chrono::days>(since_epoch);
    const std::chrono::year_month_day date{std::chrono::sys_days{days}};
    const auto of_day = static_cast<unsigned>((since_epoch - days).count());

    constexpr std::string_view kForm = "0000-00-00T00:00:00.000Z";
    std::copy(kForm.begin(), kForm.end(), text_.begin());
    auto* const text = text_.data();
    put_digits(text + 4, static_cast<unsigned>(static_cast<int>(date.year())), 4);
    put_digits(text + 7, static_cast<unsigned>(date.month()), 2);
    put_digits(text + 10, static_cast<unsigned>(date.day()), 2);
    put_digits(text + 13, of_day / 3'600'000, 2);
    put_digits(text + 16, of_day / 60'000 % 60, 2);
    put_digits(text + 19, of_day / 1000 % 60, 2);
    put_digits(text + 23, of_day % 1000, 3);
}

}  // namespace opsrelay
