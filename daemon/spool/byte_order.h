// Fixed-width integers in the spool's bytes: big-endian in keys, so that byte order is numeric
// order, little-endian in values.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace opsrelay::spool {

template <std::unsigned_integral Int>
constexpr void store_be(char* to, Int value) noexcept {
    for (std::size_t i = 0; i < sizeof(Int); ++i) {
        to[sizeof(Int) - 1 - i] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
    }
}

template <std::unsigned_integral Int>
[[nodiscard]] constexpr Int load_be(const char* from) noexcept {
    Int value = 0;
    for (std::size_t i = 0; i < sizeof(Int); ++i) {
        value = static_cast<Int>(
            value |
            static_cast<Int>(static_cast<Int>(static_cast<unsigned char>(from[sizeof(Int) - 1 - i]))
                             << (8 * i)));
    }
    return value;
}

template <std::unsigned_integral Int>
constexpr void store_le(char* to, Int value) noexcept {
    for (std::size_t i = 0; i < sizeof(Int); ++i) {
        to[i] = static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
    }
}

template <std::unsigned_integral Int>
[[nodiscard]] constexpr Int load_le(const char* from) noexcept {
    Int value = 0;
    for (std::size_t i = 0; i < sizeof(Int); ++i) {
        value = static_cast<Int>(
            value |
            static_cast<Int>(static_cast<Int>(static_cast<unsigned char>(from[i])) << (8 * i)));
    }
    return value;
}

}  // namespace opsrelay::spool
