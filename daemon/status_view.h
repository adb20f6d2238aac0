// What /status and /metrics show, from what the stages tell.
#pragma once

#include <vector>

#include "control/status.h"
#include "core/clock.h"
#include "forward/pump.h"
#include "listen/listeners.h"
#include "observe/metrics.h"
#include "pipeline.h"

namespace opsrelay {

/// Lanes that are not configured come after `lanes`. Version, readiness and the limit of the spool
/// are left to the caller.
[[nodiscard]] control::StatusView status_view(const Snapshot& snapshot,
                                              const std::vector<forward::LaneStatus>& lanes,
                                              const std::vector<listen::ListenerStatus>& listeners,
                                              WallTime now);

/// Sets the metrics that are read from a snapshot.
void publish(const control::StatusView& view, observe::Registry& registry);

}  // namespace opsrelay
