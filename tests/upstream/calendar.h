// UTC days and months, and times as text: plans are counted by month, budgets by day and month.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace opsrelay::upstream {

using Day = std::chrono::sys_days;
using Month = std::chrono::year_month;

[[nodiscard]] inline Day day_of(WallTime time) {
    return std::chrono::floor<std::chrono::days>(time);
}
[[nodiscard]] Month month_of(Day day);

/// First and last second, as in workspace-status: 2026-04-01T00:00:00Z, 2026-04-30T23:59:59Z.
struct Period {
    std::string start;
    std::string end;
};
[[nodiscard]] Period period_of(Day day);
[[nodiscard]] Period period_of(Month month);

/// "2026-04-11T10:20:30Z"
[[nodiscard]] std::string utc_text(WallTime time);
/// ISO 8601 with seconds, an optional fraction, and Z or an offset: 2026-04-11T10:20:30.5+02:00.
/// nullopt: something else, or no such time.
[[nodiscard]] std::optional<WallTime> parse_utc(std::string_view text);

}  // namespace opsrelay::upstream
