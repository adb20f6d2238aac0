// The id that reception gives to an event without one.
#pragma once

#include <array>
#include <string_view>

#include "core/clock.h"
#include "core/random.h"

namespace opsrelay::parse {

/// A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, 74 random bits, lower
/// case.
class MintedId {
public:
    static constexpr std::size_t kLength = 36;
    MintedId(WallTime time, Rng& rng);
    [[nodiscard]] std::string_view text() const noexcept { return {text_.data(), text_.size()}; }

private:
    std::array<char, kLength> text_;
};

}  // namespace opsrelay::parse
