// The daemon: owns the threads, the real implementations behind the seams, the listeners and the
// admin server, and their order at start and stop.
#pragma once

#include <functional>

#include "config/config.h"
#include "core/error.h"

namespace opsrelay {

/// Reads the configuration again, as it was read for run_relay().
using LoadConfig = std::function<Result<config::Config>()>;

/// Runs until SIGTERM or SIGINT, or until the storage fails for good; returns the process's exit
/// code (core/error.h). A second signal ends the process at once with code 1; what was acknowledged
/// is durable then too. Logs the ledger as its last line. Thread: the main one, before any other.
/// SIGHUP reloads the configuration: all of it or, when it is refused, nothing.
[[nodiscard]] int run_relay(const config::Config& config, const LoadConfig& load);

}  // namespace opsrelay
