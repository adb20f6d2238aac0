// Eight bytes of text at a time, by arithmetic on a word ("Bit Twiddling Hacks", on bytes in a
// word).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace opsrelay::parse {

using Word = std::uint64_t;
inline constexpr std::size_t kWordBytes = sizeof(Word);

[[nodiscard]] inline Word load_word(const char* text) noexcept {
    Word word = 0;
    std::memcpy(&word, text, sizeof word);
    return word;
}

/// Eight times the byte `c`.
constexpr Word word_of(unsigned char c) noexcept { return 0x0101010101010101ULL * c; }

// Not 0 exactly when the word has such a byte. Which one it is they do not say.
constexpr Word has_high_bit(Word word) noexcept { return word & word_of(0x80); }
constexpr Word has_below(Word word, unsigned char n) noexcept {  // n is at most 128
    return (word - word_of(n)) & ~word & word_of(0x80);
}
constexpr Word has_byte(Word word, unsigned char c) noexcept {
    return has_below(word ^ word_of(c), 1);
}

}  // namespace opsrelay::parse
