// A spool that no daemon has open, for commands: the same requests as over admin.sock.
#pragma once

#include "cli/cli.h"
#include "config/config.h"

namespace opsrelay {

/// Opens the spool of this configuration for as long as the result lives; recovers it as a start
/// would, but moves nothing aside, and makes nothing that is not there. Errors: spool_locked,
/// spool_unusable (also: there is none, or it cannot be opened).
[[nodiscard]] Result<cli::Ask> open_spool_offline(const config::Config& config);

}  // namespace opsrelay
