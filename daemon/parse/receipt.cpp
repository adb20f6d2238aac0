#include "parse/receipt.h"

#include <algorithm>
#include <cstdint>

namespace opsrelay::parse {

MintedId::MintedId(WallTime time, Rng& rng) {
    constexpr std::string_view kHex = "0123456789abcdef";
    constexpr std::uint64_t kVersion = 7;
    constexpr std::uint64_t kVariant = 0b10;
    const auto ms = static_cast<std::uint64_t>(std::max<std::int64_t>(unix_ms(time), 0));
    const auto high = (ms << 16U) | (kVersion << 12U) | (rng.next() >> 52U);
    const auto low = (kVariant << 62U) | (rng.next() >> 2U);
    std::size_t at = 0;
    for (unsigned nibble = 0; nibble < 32; ++nibble) {
        if (nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20) text_[at++] = '-';
        const auto word = nibble < 16 ? high : low;
        text_[at++] = kHex[(word >> (60U - 4U * (nibble % 16U))) & 0x0FU];
    }
}

}  // namespace opsrelay::parse
