// Tries an upstream as the daemon would reach it, for `opsrelay doctor`.
#pragma once

#include "cli/upstream_report.h"

namespace opsrelay {

/// Reads the key, looks the name up, connects (through the proxy, with TLS) and asks for the
/// workspace's status; no event is sent. Every step ends within `timeout`, all of them together
/// within three times that. Thread: any one; a lookup that does not come back leaves its thread
/// behind.
[[nodiscard]] cli::UpstreamReport try_upstream(const forward::Options& options,
                                               milliseconds timeout);

}  // namespace opsrelay
