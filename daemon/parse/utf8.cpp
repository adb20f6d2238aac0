#include "parse/utf8.h"

#include "parse/word.h"

namespace opsrelay::parse {

namespace {

constexpr std::size_t kNowhere = std::string_view::npos;

unsigned byte_at(std::string_view text, std::size_t i) noexcept {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
}

bool in(unsigned value, unsigned low, unsigned high) noexcept {
    return value >= low && value <= high;
}

// Length of the well-formed sequence at `i`, which is not ASCII; 0 when there is none. A byte
// beyond the end reads as 0, which continues nothing.
std::size_t sequence_length(std::string_view text, std::size_t i) noexcept {
    const auto lead = byte_at(text, i);
    const auto second = byte_at(text, i + 1);
    if (in(lead, 0xC2, 0xDF)) return in(second, 0x80, 0xBF) ? 2 : 0;
    if (in(lead, 0xE0, 0xEF)) {
        const auto low = lead == 0xE0 ? 0xA0U : 0x80U;
        const auto high = lead == 0xED ? 0x9FU : 0xBFU;
        return in(second, low, high) && in(byte_at(text, i + 2), 0x80, 0xBF) ? 3 : 0;
    }
    if (in(lead, 0xF0, 0xF4)) {
        const auto low = lead == 0xF0 ? 0x90U : 0x80U;
        const auto high = lead == 0xF4 ? 0x8FU : 0xBFU;
        const auto tail =
            in(byte_at(text, i + 2), 0x80, 0xBF) && in(byte_at(text, i + 3), 0x80, 0xBF);
        return in(second, low, high) && tail ? 4 : 0;
    }
    return 0;
}

// Offset of the first byte that is not ASCII, from `i` on: eight bytes at a time.
std::size_t skip_ascii(std::string_view text, std::size_t i) noexcept {
    while (i + kWordBytes <= text.size() && has_high_bit(load_word(text.data() + i)) == 0) {
        i += kWordBytes;
    }
    while (i < text.size() && byte_at(text, i) < 0x80U) ++i;
    return i;
}

unsigned hex4(std::string_view digits) noexcept {
    unsigned value = 0;
    for (const auto c : digits.substr(0, 4)) {
        const auto lower = static_cast<unsigned>(c) | 0x20U;
        value = value * 16 + (lower >= 'a' ? lower - 'a' + 10U : static_cast<unsigned>(c - '0'));
    }
    return value;
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) noexcept {
    auto i = skip_ascii(text, 0);
    while (i < text.size()) {
        const auto length = sequence_length(text, i);
        if (length == 0) return i;
        i = skip_ascii(text, i + length);
    }
    return kNowhere;
}

std::size_t first_lone_surrogate(std::string_view text) noexcept {
    constexpr std::size_t kEscape = 6;  // \uXXXX
    auto i = text.find('\\');
    while (i != kNowhere) {
        std::size_t length = 2;
        if (byte_at(text, i + 1) == 'u') {
            length = kEscape;
            const auto unit = hex4(text.substr(i + 2));
            if (in(unit, 0xDC00, 0xDFFF)) return i;
            if (in(unit, 0xD800, 0xDBFF)) {
                const auto next = text.substr(i + kEscape);
                if (!next.starts_with("\\u") || !in(hex4(next.substr(2)), 0xDC00, 0xDFFF)) return i;
                length = 2 * kEscape;
            }
        }
        i = text.find('\\', i + length);
    }
    return kNowhere;
}

}  // namespace opsrelay::parse
