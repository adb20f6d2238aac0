// What reception adds to an event: the time stamp and the minted id, as text.
#pragma once

#include <array>
#include <string_view>

#include "core/clock.h"
#include "core/random.h"

namespace opsrelay::parse {

/// "2026-03-14T09:26:53.120Z": RFC 3339 in UTC with milliseconds. Times outside the years 0001 to
/// 9999 are moved to the nearest end.
class TimeStamp {
public:
    explicit TimeStamp(WallTime time) noexcept;
    [[nodiscard]] std::string_view text() const noexcept { return {text_.data(), text_.size()}; }

private:
    std::array<char, 24> text_;
};

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
