#include "parse/rules.h"

#include <algorithm>
#include <limits>

#include "parse/word.h"

namespace opsrelay::parse {

namespace {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

std::size_t digits_at(std::string_view text, std::size_t from) noexcept {
    auto end = from;
    while (end < text.size() && is_digit(text[end])) ++end;
    return end - from;
}

// Exponents beyond this are all the same to us: the whole part is zero or has too many digits.
// An event has at most 64 Ki digits, so digits cannot make up for it.
constexpr std::int64_t kExponentMax = 1'000'000'000;

std::int64_t parse_exponent(std::string_view text) noexcept {
    const auto negative = text.front() == '-';
    if (negative || text.front() == '+') text.remove_prefix(1);
    std::int64_t value = 0;
    for (const auto c : text) value = std::min(value * 10 + (c - '0'), kExponentMax);
    return negative ? -value : value;
}

// The digits of a number as one row, with the decimal point removed.
class DigitRow {
public:
    DigitRow(std::string_view whole, std::string_view fraction) noexcept
        : whole_(whole), fraction_(fraction) {}

    [[nodiscard]] std::size_t size() const noexcept { return whole_.size() + fraction_.size(); }
    [[nodiscard]] unsigned operator[](std::size_t i) const noexcept {
        const auto c = i < whole_.size() ? whole_[i] : fraction_[i - whole_.size()];
        return static_cast<unsigned>(c - '0');
    }

private:
    std::string_view whole_;
    std::string_view fraction_;
};

// Unicode White_Space outside ASCII, in UTF-8, except U+2000..U+200A.
constexpr std::array<std::string_view, 8> kWideSpaces{
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

constexpr bool is_ascii_space(char c) noexcept { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool is_en_space(std::string_view three) noexcept {
    return three.size() == 3 && three[0] == '\xE2' && three[1] == '\x80' &&
           static_cast<unsigned char>(three[2]) >= 0x80U &&
           static_cast<unsigned char>(three[2]) <= 0x8AU;
}

std::size_t space_at_front(std::string_view text) noexcept {
    if (text.empty()) return 0;
    if (is_ascii_space(text.front())) return 1;
    if (static_cast<unsigned char>(text.front()) < 0x80U) return 0;
    if (is_en_space(text.substr(0, 3))) return 3;
    for (const auto space : kWideSpaces) {
        if (text.starts_with(space)) return space.size();
    }
    return 0;
}

std::size_t space_at_back(std::string_view text) noexcept {
    if (text.empty()) return 0;
    if (is_ascii_space(text.back())) return 1;
    if (static_cast<unsigned char>(text.back()) < 0x80U) return 0;
    if (text.size() >= 3 && is_en_space(text.substr(text.size() - 3))) return 3;
    for (const auto space : kWideSpaces) {
        if (text.ends_with(space)) return space.size();
    }
    return 0;
}

// How many bytes from the front are certainly printable ASCII.
std::size_t plain_ascii(std::string_view text) noexcept {
    std::size_t done = 0;
    for (; done + kWordBytes <= text.size(); done += kWordBytes) {
        const auto word = load_word(text.data() + done);
        if ((has_high_bit(word) | has_below(word, 0x20) | has_byte(word, 0x7F)) != 0) break;
    }
    return done;
}

constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Reads exactly `count` digits off the front of `text`; beyond any number allowed when they are
// not.
unsigned take_number(std::string_view& text, std::size_t count) noexcept {
    constexpr unsigned kNone = 1'000'000;
    if (text.size() < count) return kNone;
    unsigned value = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto digit = static_cast<unsigned>(text[i]) - '0';
        if (digit > 9) return kNone;
        value = value * 10 + digit;
    }
    text.remove_prefix(count);
    return value;
}

bool take(std::string_view& text, char expected) noexcept {
    if (!text.starts_with(expected)) return false;
    text.remove_prefix(1);
    return true;
}

unsigned days_in(unsigned year, unsigned month) noexcept {
    constexpr std::array<unsigned, 13> kDays{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const auto leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : kDays.at(month);
}

bool take_date(std::string_view& text) noexcept {
    const auto year = take_number(text, 4);
    if (year < 1 || year > 9999 || !take(text, '-')) return false;
    const auto month = take_number(text, 2);
    if (month < 1 || month > 12 || !take(text, '-')) return false;
    const auto day = take_number(text, 2);
    return day >= 1 && day <= days_in(year, month);
}

bool take_hours_minutes(std::string_view& text) noexcept {
    return take_number(text, 2) < 24 && take(text, ':') && take_number(text, 2) < 60;
}

bool take_seconds(std::string_view& text) noexcept {
    if (!take(text, ':')) return true;  // hh:mm alone
    if (take_number(text, 2) >= 60) return false;
    if (!take(text, '.')) return true;
    const auto digits = digits_at(text, 0);
    text.remove_prefix(digits);
    return digits >= 1 && digits <= 9;
}

bool looks_like_mail(std::string_view text) noexcept {
    const auto at = text.find('@');
    if (at == 0 || at == std::string_view::npos || text.rfind('@') != at) return false;
    if (text.find_first_of(" \t,;:/\\\"<>") != std::string_view::npos) return false;
    const auto host = text.substr(at + 1);
    const auto dot = host.find('.');
    return dot != std::string_view::npos && dot > 0 && !host.ends_with('.');
}

// A plus sign and 8 to 15 digits (E.164), or 9 to 15 digits with separators between them.
bool looks_like_phone(std::string_view text) noexcept {
    const auto plus = text.starts_with('+');
    if (plus) text.remove_prefix(1);
    std::size_t digits = 0;
    std::size_t separators = 0;
    for (const auto c : text) {
        if (is_digit(c)) {
            ++digits;
        } else if (std::string_view(" -./()").find(c) != std::string_view::npos) {
            ++separators;
        } else {
            return false;
        }
    }
    const std::size_t least = plus ? 8 : 9;
    return digits >= least && digits <= 15 && (plus || separators > 0) && separators < digits;
}

}  // namespace

std::optional<InnerField> find_inner_field(Field section, std::string_view key) noexcept {
    const auto prefix = to_string(section);
    for (const auto& row : kInnerFields) {
        const auto at = prefix.size();
        if (row.name.size() == at + 1 + key.size() && row.name[at] == '.' &&
            row.name.starts_with(prefix) && row.name.ends_with(key)) {
            return row.value;
        }
    }
    return std::nullopt;
}

Decimal parse_decimal(std::string_view text) noexcept {
    Decimal result;
    if (const auto value = plain_number(text)) {
        result.plain = true;
        result.whole = *value;
        return result;
    }
    const auto minus = text.starts_with('-');
    if (minus) text.remove_prefix(1);
    const auto whole = text.substr(0, digits_at(text, 0));
    auto rest = text.substr(whole.size());
    result.plain = !minus && rest.empty();
    std::string_view fraction;
    if (rest.starts_with('.')) {
        fraction = rest.substr(1, digits_at(rest, 1));
        rest.remove_prefix(1 + fraction.size());
    }
    const auto exponent = rest.empty() ? 0 : parse_exponent(rest.substr(1));

    const DigitRow digits(whole, fraction);
    std::size_t first = 0;
    while (first < digits.size() && digits[first] == 0) ++first;
    if (first == digits.size()) return result;  // zero, however it is spelled
    auto last = digits.size();
    while (digits[last - 1] == 0) --last;
    result.negative = minus;

    // The whole part is the row up to `point`, which may lie outside the row on either side.
    const auto point = static_cast<std::int64_t>(whole.size()) + exponent;
    const auto begin = static_cast<std::int64_t>(first);
    const auto end = static_cast<std::int64_t>(last);
    result.fraction = point < end;
    result.round_up = point >= begin && point < end && digits[static_cast<std::size_t>(point)] >= 5;
    if (point - begin > std::numeric_limits<std::uint64_t>::digits10) {
        result.overflow = true;
        return result;
    }
    for (auto i = begin; i < point; ++i) {
        const auto digit = i < end ? digits[static_cast<std::size_t>(i)] : 0U;
        result.whole = result.whole * 10 + digit;
    }
    return result;
}

std::size_t number_length(std::string_view text) noexcept {
    std::size_t at = text.starts_with('-') ? 1 : 0;
    const auto whole = digits_at(text, at);
    if (whole == 0 || (whole > 1 && text[at] == '0')) return 0;
    at += whole;
    if (at < text.size() && text[at] == '.') {
        const auto fraction = digits_at(text, at + 1);
        if (fraction == 0) return 0;
        at += 1 + fraction;
    }
    if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
        ++at;
        if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
        const auto exponent = digits_at(text, at);
        if (exponent == 0) return 0;
        at += exponent;
    }
    return at;
}

bool is_integer_text(std::string_view number) noexcept {
    if (number.starts_with('-')) number.remove_prefix(1);
    return !number.empty() && digits_at(number, 0) == number.size();
}

std::string_view trim(std::string_view text) noexcept {
    while (const auto length = space_at_front(text)) text.remove_prefix(length);
    while (const auto length = space_at_back(text)) text.remove_suffix(length);
    return text;
}

bool printable(std::string_view text) noexcept {
    for (auto i = plain_ascii(text); i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (c < 0x20U || c == 0x7FU) return false;
        if (c == 0xC2U && static_cast<unsigned char>(text[i + 1]) < 0xA0U) return false;  // C1
        if (c != 0xE2U) continue;
        const auto three = text.substr(i, 3);
        if (three == "\xE2\x80\xA8" || three == "\xE2\x80\xA9") return false;
    }
    return true;
}

std::optional<std::string_view> spelled(std::string_view text,
                                        std::span<const std::string_view> names) noexcept {
    const auto word = trim(text);
    const auto same = [](char given, char wanted) { return lower(given) == wanted; };
    for (const auto name : names) {
        if (std::ranges::equal(word, name, same)) return name;
    }
    return std::nullopt;
}

bool looks_personal(std::string_view text) noexcept {
    const auto word = trim(text);
    return looks_like_mail(word) || looks_like_phone(word);
}

bool is_iso8601(std::string_view text) noexcept {
    if (!take_date(text)) return false;
    if (text.empty()) return true;
    if (!take(text, 'T') || !take_hours_minutes(text) || !take_seconds(text)) return false;
    if (text.empty() || text == "Z") return true;
    if (!take(text, '+') && !take(text, '-')) return false;
    return take_hours_minutes(text) && text.empty();
}

}  // namespace opsrelay::parse
