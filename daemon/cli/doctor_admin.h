// Whether probes and scrapers get their answers, for `doctor`.
#pragma once

#include "cli/doctor_report.h"
#include "cli/doctor_sockets.h"
#include "config/config.h"
#include "core/clock.h"

namespace opsrelay::cli {

/// "listener.admin" and "listener.metrics", for those that are configured: with a daemon, that
/// /livez, /readyz and /metrics answer, the last one alone at metrics.address, which serves nothing
/// else; without, that the port is free. Whether the daemon is ready is told by check_daemon().
[[nodiscard]] Findings check_admin_ports(const config::Config& config, const DaemonCheck& daemon,
                                         const Clock& clock, TimePoint due);

}  // namespace opsrelay::cli
