// Whether a daemon runs, and whether its sockets can be reached, for `doctor`.
#pragma once

#include <string>

#include "cli/doctor_report.h"
#include "config/config.h"
#include "core/clock.h"

namespace opsrelay::cli {

struct DaemonCheck {
    bool running = false;  // it answered over admin.sock
    Finding finding;
};
/// Asks over admin.sock. The check is called "daemon".
[[nodiscard]] DaemonCheck check_daemon(const config::Config& config, const Clock& clock,
                                       TimePoint due);

/// One check a listener, "listener.<type>": with a daemon, that its socket is there, has the mode
/// that is configured, and lets this user in; without, that nothing is in its place. Nothing is
/// sent and nothing is made.
[[nodiscard]] Findings check_listeners(const config::Config& config, bool running,
                                       const Clock& clock, TimePoint due);

}  // namespace opsrelay::cli
