#include "parse/scanner.h"

#include <bit>
#include <cstddef>
#include <cstdint>

#include "parse/utf8.h"
#include "parse/word.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace opsrelay::parse {

namespace {

// Below this the stack is not worth a thought; deeper events are rare and RapidJSON's.
constexpr unsigned kDepthMax = 8;

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// What ends or interrupts the plain part of a string: the quote, a backslash, a control character,
// a byte of a character outside ASCII.
constexpr bool stops(char c) noexcept {
    const auto byte = static_cast<unsigned char>(c);
    return c == '"' || c == '\\' || byte < 0x20U || byte >= 0x80U;
}

const char* stop_bytewise(const char* at, const char* end) noexcept {
    while (at != end && !stops(*at)) ++at;
    return at;
}

struct PortableStop {
    static const char* find(const char* at, const char* end) noexcept {
        for (; end - at >= static_cast<std::ptrdiff_t>(kWordBytes); at += kWordBytes) {
            const auto word = load_word(at);
            const auto quoted = has_byte(word, '"') | has_byte(word, '\\');
            if ((quoted | has_below(word, 0x20) | has_high_bit(word)) != 0) break;
        }
        return stop_bytewise(at, end);
    }
};

#if defined(__SSE2__)
// Sixteen bytes at a time. A signed comparison finds control characters and high bytes at once.
struct Sse2Stop {
    static const char* find(const char* at, const char* end) noexcept {
        for (; end - at >= 16; at += 16) {
            const auto block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
            const auto quote = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
            const auto backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'));
            const auto outside = _mm_cmplt_epi8(block, _mm_set1_epi8(0x20));
            const auto any = _mm_or_si128(_mm_or_si128(quote, backslash), outside);
            const auto mask = static_cast<unsigned>(_mm_movemask_epi8(any));
            if (mask != 0) return at + std::countr_zero(mask);
        }
        return stop_bytewise(at, end);
    }
};
using FastStop = Sse2Stop;
#else
using FastStop = PortableStop;
#endif

// Each function takes the place where its token begins and returns the place behind it, or nullptr:
// not mine. The text ends with the closing brace, which stops every loop but that over a string; so
// only after a closing brace and within strings the end has to be looked for.
template <typename Stop>
class Scanner {
public:
    Scanner(std::string_view text, Outline& outline) noexcept
        : text_(text), outline_(outline), end_(text.data() + text.size()) {}

    Scan run() {
        const auto* at = text_.data();
        while (end_ != at && is_space(end_[-1])) --end_;
        if (end_ == at || end_[-1] != '}') return {};
        at = skip_space(at);
        if (*at != '{' || object(at, 1) != end_) return {};
        if (not_ascii_ && first_invalid_utf8(text_) != std::string_view::npos) return {};
        return {true, newlines_};
    }

private:
    bool is_space(char c) noexcept {
        if (c == ' ' || c == '\t') return true;
        if (c != '\n' && c != '\r') return false;
        newlines_ = true;
        return true;
    }
    const char* skip_space(const char* at) noexcept {
        while (static_cast<unsigned char>(*at) <= ' ' && is_space(*at)) ++at;
        return at;
    }
    [[nodiscard]] std::uint32_t offset(const char* at) const noexcept {
        return static_cast<std::uint32_t>(at - text_.data());
    }
    static std::string_view between(const char* begin, const char* end) noexcept {
        return {begin, static_cast<std::size_t>(end - begin)};
    }

    // From the opening quote to behind the closing one.
    [[gnu::always_inline]] const char* string(const char* at) noexcept {
        at = Stop::find(at + 1, end_);
        if (at != end_ && *at == '"') return at + 1;
        return rest_of_string(at);
    }
    const char* rest_of_string(const char* at) noexcept {
        for (;; at = Stop::find(at, end_)) {
            if (at == end_) return nullptr;
            if (*at == '"') return at + 1;
            if (static_cast<unsigned char>(*at) < 0x80U) return nullptr;
            not_ascii_ = true;
            while (at != end_ && static_cast<unsigned char>(*at) >= 0x80U) ++at;
        }
    }

    [[gnu::always_inline]] static const char* number(const char* at) noexcept {
        if (*at == '-') ++at;
        const auto zero = *at == '0';
        if (!is_digit(*at++) || (zero && is_digit(*at))) return nullptr;
        while (is_digit(*at)) ++at;
        if (*at == '.') {
            if (!is_digit(*++at)) return nullptr;
            while (is_digit(*at)) ++at;
        }
        return *at != 'e' && *at != 'E' ? at : nullptr;
    }

    const char* word(const char* at, std::string_view expected, ValueKind kind) {
        if (!between(at, end_).starts_with(expected)) return nullptr;
        const auto* const end = at + expected.size();
        outline_.scalar(kind, offset(at), offset(end), {});
        return end;
    }

    // `depth` is of what contains the value.
    [[gnu::always_inline]] const char* value(const char* at, unsigned depth) {
        if (*at == '"') {
            const auto* const end = string(at);
            if (end == nullptr) return nullptr;
            outline_.scalar(ValueKind::string, offset(at), offset(end), between(at + 1, end - 1));
            return end;
        }
        if (is_digit(*at) || *at == '-') {
            const auto* const end = number(at);
            if (end == nullptr) return nullptr;
            outline_.scalar(ValueKind::number, offset(at), offset(end), between(at, end));
            return end;
        }
        switch (*at) {
            case '{': return depth < kDepthMax ? object(at, depth + 1) : nullptr;
            case '[': return depth < kDepthMax ? array(at, depth + 1) : nullptr;
            case 't': return word(at, "true", ValueKind::boolean);
            case 'f': return word(at, "false", ValueKind::boolean);
            case 'n': return word(at, "null", ValueKind::null);
            default: return nullptr;
        }
    }

    const char* close(const char* at, unsigned depth) {
        ++at;
        outline_.close(offset(at));
        return depth == 1 || at != end_ ? at : nullptr;
    }

    const char* object(const char* at, unsigned depth) {
        if (!outline_.open(ValueKind::object, offset(at))) return nullptr;
        at = skip_space(at + 1);
        if (*at == '}') return close(at, depth);
        for (;;) {
            if (*at != '"') return nullptr;
            const auto* const key = at;
            at = string(at);
            if (at == nullptr) return nullptr;
            outline_.key(between(key + 1, at - 1), offset(key));
            at = skip_space(at);
            if (*at != ':') return nullptr;
            at = value(skip_space(at + 1), depth);
            if (at == nullptr) return nullptr;
            at = skip_space(at);
            if (*at == '}') return close(at, depth);
            if (*at != ',') return nullptr;
            at = skip_space(at + 1);
        }
    }

    const char* array(const char* at, unsigned depth) {
        if (!outline_.open(ValueKind::array, offset(at))) return nullptr;
        at = skip_space(at + 1);
        if (*at == ']') return close(at, depth);
        for (;;) {
            at = value(at, depth);
            if (at == nullptr) return nullptr;
            at = skip_space(at);
            if (*at == ']') return close(at, depth);
            if (*at != ',') return nullptr;
            at = skip_space(at + 1);
        }
    }

    const std::string_view text_;
    Outline& outline_;
    const char* end_;
    bool not_ascii_ = false;
    bool newlines_ = false;
};

}  // namespace

Scan scan(std::string_view text, Outline& outline) {
    return Scanner<FastStop>(text, outline).run();
}

Scan scan_portably(std::string_view text, Outline& outline) {
    return Scanner<PortableStop>(text, outline).run();
}

}  // namespace opsrelay::parse
