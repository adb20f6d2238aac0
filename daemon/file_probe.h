// Reads the files that a configuration names as the daemon does at start, for `opsrelay check` and
// `opsrelay doctor`.
#pragma once

#include "cli/files_report.h"

namespace opsrelay {

/// Nothing is made, bound or sent. Thread: any one.
[[nodiscard]] cli::FilesReport try_files(const config::Config& config);

}  // namespace opsrelay
