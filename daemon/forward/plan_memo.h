// Pure: what a lane remembers of its workspace over a restart, as the spool keeps it
// (spool::Ack::memo).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/plan_state.h"

namespace opsrelay::forward {

/// u8 version (1), u8 flags (bit 0 telemetryPaused, 1 isPlanLimitReached, 2 budgetWarning,
/// 3 budgetExceeded), the plan's tier.
[[nodiscard]] std::string encode_plan(const PlanFields& fields);
/// nullopt: nothing was remembered, or by a program that knew more.
[[nodiscard]] std::optional<PlanFields> decode_plan(std::string_view memo);

}  // namespace opsrelay::forward
