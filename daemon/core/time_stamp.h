// A moment as text, for events, status, dead letters and whoever watches.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/clock.h"

namespace opsrelay {

/// "2026-03-14T09:26:53.120Z": RFC 3339 in UTC with milliseconds. Times outside the years 0001 to
/// 9999 are moved to the nearest end.
class TimeStamp {
public:
    explicit TimeStamp(std::int64_t unix_ms) noexcept;
    explicit TimeStamp(WallTime time) noexcept : TimeStamp(unix_ms(time)) {}
    [[nodiscard]] std::string_view text() const noexcept { return {text_.data(), text_.size()}; }

private:
    std::array<char, 24> text_;
};

}  // namespace opsrelay
