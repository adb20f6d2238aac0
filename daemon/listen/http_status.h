// The reply to GET /v1/diagnostics/workspace-status: upstream's own words while they are fresh,
// else what is known here. Pure.
#pragma once

#include <optional>

#include "core/clock.h"
#include "core/plan_state.h"
#include "listen/http_rules.h"

namespace opsrelay::listen {

/// A fresh answer byte for byte. Else "stale":true, and an older answer with its flags and severity
/// as upstream's later replies to events have them; without one what those replies said, amounts
/// and names being null.
[[nodiscard]] HttpReply workspace_reply(const PlanFields& plan,
                                        const std::optional<WorkspaceAnswer>& answer,
                                        TimePoint now);

}  // namespace opsrelay::listen
