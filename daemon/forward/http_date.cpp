#include "forward/http_date.h"

#include <algorithm>
#include <array>

namespace opsrelay::forward {

namespace {

constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr std::array<std::string_view, 7> kDays{"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
constexpr std::array<std::string_view, 7> kLongDays{"Monday", "Tuesday",  "Wednesday", "Thursday",
                                                    "Friday", "Saturday", "Sunday"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Takes fields off the front of a text; once one does not match, nothing matches any more.
class Reader {
public:
    explicit Reader(std::string_view text) : rest_(text) {}

    void literal(std::string_view expected) {
        if (!rest_.starts_with(expected)) return fail();
        rest_.remove_prefix(expected.size());
    }
    int digits(std::size_t count) {
        if (rest_.size() < count) return fail(), 0;
        int value = 0;
        for (std::size_t i = 0; i < count; ++i) {
            if (!is_digit(rest_[i])) return fail(), 0;
            value = value * 10 + (rest_[i] - '0');
        }
        rest_.remove_prefix(count);
        return value;
    }
    template <std::size_t N>
    int one_of(const std::array<std::string_view, N>& names) {
        for (std::size_t i = 0; i < N; ++i) {
            if (!rest_.starts_with(names[i])) continue;
            rest_.remove_prefix(names[i].size());
            return static_cast<int>(i) + 1;
        }
        return fail(), 0;
    }
    [[nodiscard]] bool next_is(char c) const { return !rest_.empty() && rest_.front() == c; }
    [[nodiscard]] bool next_is_digit() const { return !rest_.empty() && is_digit(rest_.front()); }
    [[nodiscard]] bool complete() const { return good_ && rest_.empty(); }

private:
    void fail() {
        good_ = false;
        rest_ = {};
    }
    std::string_view rest_;
    bool good_ = true;
};

struct Civil {
    int year = 0;
    int month = 0;
    int day = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
};

std::optional<WallTime> to_time(const Civil& c) {
    const std::chrono::year_month_day date{std::chrono::year{c.year},
                                           std::chrono::month{static_cast<unsigned>(c.month)},
                                           std::chrono::day{static_cast<unsigned>(c.day)}};
    // 60 is a leap second. Outside 1970..2200 nanoseconds would not fit, and nobody means it.
    if (!date.ok() || c.year < 1970 || c.year > 2200) return std::nullopt;
    if (c.hour > 23 || c.minute > 59 || c.second > 60) return std::nullopt;
    return std::chrono::sys_days{date} + hours{c.hour} + minutes{c.minute} + seconds{c.second};
}

void read_clock(Reader& in, Civil& c) {
    c.hour = in.digits(2);
    in.literal(":");
    c.minute = in.digits(2);
    in.literal(":");
    c.second = in.digits(2);
}

// Sun, 06 Nov 1994 08:49:37 GMT
std::optional<WallTime> parse_imf_fixdate(std::string_view text) {
    Reader in(text);
    Civil c;
    in.one_of(kDays);
    in.literal(", ");
    c.day = in.digits(2);
    in.literal(" ");
    c.month = in.one_of(kMonths);
    in.literal(" ");
    c.year = in.digits(4);
    in.literal(" ");
    read_clock(in, c);
    in.literal(" GMT");
    return in.complete() ? to_time(c) : std::nullopt;
}

// Sunday, 06-Nov-94 08:49:37 GMT
std::optional<WallTime> parse_rfc850(std::string_view text, WallTime now) {
    Reader in(text);
    Civil c;
    in.one_of(kLongDays);
    in.literal(", ");
    c.day = in.digits(2);
    in.literal("-");
    c.month = in.one_of(kMonths);
    in.literal("-");
    const int two_digits = in.digits(2);
    in.literal(" ");
    read_clock(in, c);
    in.literal(" GMT");
    if (!in.complete()) return std::nullopt;
    const std::chrono::year_month_day today{std::chrono::floor<std::chrono::days>(now)};
    const int this_year = static_cast<int>(today.year());
    c.year = this_year - this_year % 100 + two_digits;
    if (c.year > this_year + 50) c.year -= 100;
    if (c.year < this_year - 50) c.year += 100;
    return to_time(c);
}

// Sun Nov  6 08:49:37 1994
std::optional<WallTime> parse_asctime(std::string_view text) {
    Reader in(text);
    Civil c;
    in.one_of(kDays);
    in.literal(" ");
    c.month = in.one_of(kMonths);
    in.literal(" ");
    if (in.next_is(' ')) {
        in.literal(" ");
        c.day = in.digits(1);
    } else {
        c.day = in.digits(2);
    }
    in.literal(" ");
    read_clock(in, c);
    in.literal(" ");
    c.year = in.digits(4);
    return in.complete() ? to_time(c) : std::nullopt;
}

std::string_view trimmed(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::optional<milliseconds> parse_delta_seconds(std::string_view text) {
    const auto all_digits = [](std::string_view digits) {
        return !digits.empty() && std::all_of(digits.begin(), digits.end(), is_digit);
    };
    const auto point = text.find('.');
    const auto whole = text.substr(0, point);
    if (!all_digits(whole)) return std::nullopt;
    constexpr auto kMax = std::chrono::duration_cast<seconds>(kRetryAfterMax).count();
    std::int64_t total = 0;
    for (const char c : whole) total = std::min<std::int64_t>(total * 10 + (c - '0'), kMax);
    if (point == std::string_view::npos) return seconds{total};
    const auto fraction = text.substr(point + 1);
    if (!all_digits(fraction)) return std::nullopt;
    milliseconds rest{0};
    int unit = 100;
    for (const char c : fraction.substr(0, 3)) {
        rest += milliseconds{(c - '0') * unit};
        unit /= 10;
    }
    if (fraction.find_first_not_of('0', 3) != std::string_view::npos) ++rest;  // not too early
    return std::min<milliseconds>(seconds{total} + rest, kRetryAfterMax);
}

}  // namespace

std::optional<WallTime> parse_http_date(std::string_view text, WallTime now) {
    text = trimmed(text);
    if (const auto time = parse_imf_fixdate(text)) return time;
    if (const auto time = parse_rfc850(text, now)) return time;
    return parse_asctime(text);
}

std::optional<milliseconds> parse_retry_after(std::string_view value,
                                              std::optional<std::string_view> date, WallTime now) {
    value = trimmed(value);
    if (const auto delta = parse_delta_seconds(value)) return delta;
    const auto target = parse_http_date(value, now);
    if (!target) return std::nullopt;
    const auto sent = date ? parse_http_date(*date, now) : std::nullopt;
    const auto wait = std::chrono::ceil<milliseconds>(*target - sent.value_or(now));
    return std::clamp(wait, milliseconds{0}, kRetryAfterMax);
}

std::optional<WallTime> parse_iso8601(std::string_view text) {
    Reader in(text);
    Civil c;
    c.year = in.digits(4);
    in.literal("-");
    c.month = in.digits(2);
    in.literal("-");
    c.day = in.digits(2);
    in.literal("T");
    read_clock(in, c);
    milliseconds fraction{0};
    if (in.next_is('.')) {
        in.literal(".");
        int unit = 100;
        do {
            fraction += milliseconds{in.digits(1) * unit};
            unit /= 10;
        } while (in.next_is_digit());
    }
    minutes offset{0};
    if (in.next_is('+') || in.next_is('-')) {
        const int sign = in.next_is('-') ? -1 : 1;
        in.literal(sign < 0 ? "-" : "+");
        const int offset_hours = in.digits(2);
        in.literal(":");
        offset = minutes{sign * (offset_hours * 60 + in.digits(2))};
    } else {
        in.literal("Z");
    }
    const auto time = to_time(c);
    if (!in.complete() || !time) return std::nullopt;
    return *time + fraction - offset;
}

}  // namespace opsrelay::forward
