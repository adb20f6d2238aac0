#include "upstream/calendar.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <charconv>
#include <cstdint>

namespace opsrelay::upstream {

namespace {

/// Takes a fixed number of digits, or a literal, off the front of a text.
class Scanner {
public:
    explicit Scanner(std::string_view text) : rest_(text) {}

    std::optional<int> digits(std::size_t count) {
        if (rest_.size() < count) return std::nullopt;
        int value = 0;
        for (const char c : rest_.substr(0, count)) {
            if (c < '0' || c > '9') return std::nullopt;
            value = value * 10 + (c - '0');
        }
        rest_.remove_prefix(count);
        return value;
    }
    bool literal(char c) {
        if (rest_.empty() || rest_.front() != c) return false;
        rest_.remove_prefix(1);
        return true;
    }
    /// ".5" and the like, in nanoseconds; digits beyond the ninth are ignored.
    std::optional<nanoseconds> fraction() {
        if (!literal('.')) return nanoseconds{0};
        std::int64_t value = 0;
        std::int64_t unit = 1'000'000'000;
        std::size_t count = 0;
        while (const auto digit = digits(1)) {
            ++count;
            unit /= 10;
            value += *digit * unit;
        }
        if (count == 0) return std::nullopt;
        return nanoseconds{value};
    }
    /// Z, or hours and minutes east of Greenwich.
    std::optional<std::chrono::minutes> zone() {
        if (literal('Z')) return std::chrono::minutes{0};
        const int sign = literal('+') ? 1 : literal('-') ? -1 : 0;
        const auto hour = digits(2);
        const bool colon = literal(':');
        const auto minute = digits(2);
        if (sign == 0 || !hour || !colon || !minute || *hour > 14 || *minute > 59) {
            return std::nullopt;
        }
        return std::chrono::minutes{sign * (*hour * 60 + *minute)};
    }
    [[nodiscard]] bool done() const { return rest_.empty(); }

private:
    std::string_view rest_;
};

std::optional<Day> scan_date(Scanner& scan) {
    const auto year = scan.digits(4);
    const bool first = scan.literal('-');
    const auto month = scan.digits(2);
    const bool second = scan.literal('-');
    const auto day = scan.digits(2);
    if (!year || !first || !month || !second || !day) return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year{*year},
                                           std::chrono::month{static_cast<unsigned>(*month)},
                                           std::chrono::day{static_cast<unsigned>(*day)}};
    // What system_clock can hold, with room for offsets.
    if (!date.ok() || *year < 1900 || *year > 2200) return std::nullopt;
    return Day{date};
}

std::optional<seconds> scan_time(Scanner& scan) {
    const auto hour = scan.digits(2);
    const bool first = scan.literal(':');
    const auto minute = scan.digits(2);
    const bool second = scan.literal(':');
    const auto second_of = scan.digits(2);
    if (!hour || !first || !minute || !second || !second_of) return std::nullopt;
    if (*hour > 23 || *minute > 59 || *second_of > 60) return std::nullopt;
    return std::chrono::hours{*hour} + std::chrono::minutes{*minute} + seconds{*second_of};
}

Period inclusive(Day first, Day end) { return {utc_text(first), utc_text(end - seconds{1})}; }

}  // namespace

Month month_of(Day day) {
    const std::chrono::year_month_day date{day};
    return date.year() / date.month();
}

Period period_of(Day day) { return inclusive(day, day + std::chrono::days{1}); }

Period period_of(Month month) {
    return inclusive(Day{month / 1}, Day{(month + std::chrono::months{1}) / 1});
}

std::string utc_text(WallTime time) {
    const auto whole = std::chrono::floor<seconds>(time);
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(whole.time_since_epoch().count()));
}

std::optional<WallTime> parse_utc(std::string_view text) {
    Scanner scan(text);
    const auto day = scan_date(scan);
    if (!day || !scan.literal('T')) return std::nullopt;
    const auto time = scan_time(scan);
    if (!time) return std::nullopt;
    const auto fraction = scan.fraction();
    const auto zone = scan.zone();
    if (!fraction || !zone || !scan.done()) return std::nullopt;
    return WallTime{*day} + *time + *fraction - *zone;
}

}  // namespace opsrelay::upstream
