// Whether a daemon runs, and whether its sockets can be reached, for `doctor`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/doctor_report.h"
#include "config/config.h"
#include "core/clock.h"

namespace opsrelay::cli {

/// A listener of the daemon that runs.
struct RunningListener {
    std::string type;
    std::string address;     // the path, or address and port
    bool inherited = false;  // the socket is its parent's
};

struct DaemonCheck {
    bool running = false;  // it answered over admin.sock
    bool silent = false;   // it did not, yet one is there: it hangs, or this user may not ask
    Finding finding;
    std::vector<RunningListener> listeners{};
};
/// Asks over admin.sock. The check is called "daemon".
[[nodiscard]] DaemonCheck check_daemon(const config::Config& config, const Clock& clock,
                                       TimePoint due);

/// One check a listener, "listener.<type>": with a daemon, that its socket is there, has the mode
/// that is configured unless it is inherited, and lets this user in; without, that nothing is in
/// its place. Nothing is sent and nothing is made.
[[nodiscard]] Findings check_listeners(const config::Config& config, const DaemonCheck& daemon,
                                       const Clock& clock, TimePoint due);

/// errno of binding a numeric address, without listening and for a moment; 0: the port is free.
/// `type`: SOCK_STREAM or SOCK_DGRAM.
[[nodiscard]] int try_bind(const std::string& address, std::uint16_t port, int type);

}  // namespace opsrelay::cli
