#include "parse/scanner.h"

#include <bit>
#include <cstdint>
#include <cstring>

#include "parse/utf8.h"

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

// Eight bytes at a time, by arithmetic on a word (Bit Twiddling Hacks, "determine if a word has a
// byte less than n").
struct PortableStop {
    static const char* find(const char* at, const char* end) noexcept {
        constexpr std::uint64_t kOnes = 0x0101010101010101ULL;
        constexpr std::uint64_t kHigh = 0x8080808080808080ULL;
        const auto below = [](std::uint64_t word, std::uint64_t n) {
            return (word - kOnes * n) & ~word & kHigh;
        };
        for (; end - at >= 8; at += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, at, sizeof word);
            const auto quote = below(word ^ kOnes * '"', 1);
            const auto backslash = below(word ^ kOnes * '\\', 1);
            if (((word & kHigh) | below(word, 0x20) | quote | backslash) != 0) break;
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

// The text ends with the closing brace, which stops every loop but that over a string; so only
// after a closing brace and within strings the end has to be looked for.
template <typename Stop>
class Scanner {
public:
    Scanner(std::string_view text, Outline& outline) noexcept
        : text_(text), outline_(outline), at_(text.data()), end_(text.data() + text.size()) {}

    Scan run() {
        while (end_ != at_ && is_space(end_[-1])) --end_;
        if (end_ == at_ || end_[-1] != '}') return {};
        skip_space();
        if (*at_ != '{' || !object(1) || at_ != end_) return {};
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
    void skip_space() noexcept {
        while (static_cast<unsigned char>(*at_) <= ' ' && is_space(*at_)) ++at_;
    }
    [[nodiscard]] std::uint32_t offset(const char* at) const noexcept {
        return static_cast<std::uint32_t>(at - text_.data());
    }
    static std::string_view between(const char* begin, const char* end) noexcept {
        return {begin, static_cast<std::size_t>(end - begin)};
    }

    // From the opening quote to behind the closing one.
    bool string() noexcept {
        for (++at_;;) {
            at_ = Stop::find(at_, end_);
            if (at_ == end_) return false;
            if (*at_ == '"') break;
            if (static_cast<unsigned char>(*at_) < 0x80U) return false;
            not_ascii_ = true;
            while (at_ != end_ && static_cast<unsigned char>(*at_) >= 0x80U) ++at_;
        }
        ++at_;
        return true;
    }

    bool number() noexcept {
        if (*at_ == '-') ++at_;
        const auto zero = *at_ == '0';
        if (!is_digit(*at_++) || (zero && is_digit(*at_))) return false;
        while (is_digit(*at_)) ++at_;
        if (*at_ == '.') {
            if (!is_digit(*++at_)) return false;
            while (is_digit(*at_)) ++at_;
        }
        return *at_ != 'e' && *at_ != 'E';
    }

    bool word(std::string_view expected, ValueKind kind) {
        const auto begin = at_;
        if (!between(begin, end_).starts_with(expected)) return false;
        at_ += expected.size();
        outline_.scalar(kind, offset(begin), offset(at_), {});
        return true;
    }

    // Stands behind the value afterwards; `depth` is of what contains it.
    bool value(unsigned depth) {
        const auto begin = at_;
        switch (*at_) {
            case '"':
                if (!string()) return false;
                outline_.scalar(ValueKind::string, offset(begin), offset(at_),
                                between(begin + 1, at_ - 1));
                return true;
            case '{': return depth < kDepthMax && object(depth + 1);
            case '[': return depth < kDepthMax && array(depth + 1);
            case 't': return word("true", ValueKind::boolean);
            case 'f': return word("false", ValueKind::boolean);
            case 'n': return word("null", ValueKind::null);
            default:
                if (!number()) return false;
                outline_.scalar(ValueKind::number, offset(begin), offset(at_), between(begin, at_));
                return true;
        }
    }

    bool close(unsigned depth) {
        ++at_;
        outline_.close(offset(at_));
        return depth == 1 || at_ != end_;
    }

    bool object(unsigned depth) {
        if (!outline_.open(ValueKind::object, offset(at_))) return false;
        ++at_;
        skip_space();
        if (*at_ == '}') return close(depth);
        for (;;) {
            const auto key = at_;
            if (*at_ != '"' || !string()) return false;
            outline_.key(between(key + 1, at_ - 1), offset(key));
            skip_space();
            if (*at_++ != ':') return false;
            skip_space();
            if (!value(depth)) return false;
            skip_space();
            if (*at_ == '}') return close(depth);
            if (*at_++ != ',') return false;
            skip_space();
        }
    }

    bool array(unsigned depth) {
        if (!outline_.open(ValueKind::array, offset(at_))) return false;
        ++at_;
        skip_space();
        if (*at_ == ']') return close(depth);
        for (;;) {
            if (!value(depth)) return false;
            skip_space();
            if (*at_ == ']') return close(depth);
            if (*at_++ != ',') return false;
            skip_space();
        }
    }

    const std::string_view text_;
    Outline& outline_;
    const char* at_;
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
