// Paths of the API, which opsrelay speaks to its upstreams and offers at its own HTTP listeners.
#pragma once

#include <string_view>

namespace opsrelay {

/// One event; the official SDKs append it to their base URL.
inline constexpr std::string_view kEventPath = "/v1/ingest/llm-request";
/// Several, with a result for each (proto/README.md). Not the service's.
inline constexpr std::string_view kBatchPath = "/v1/ingest/batch";
/// State of plan and budgets.
inline constexpr std::string_view kStatusPath = "/v1/diagnostics/workspace-status";

}  // namespace opsrelay
