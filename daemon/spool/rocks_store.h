// The real Store: RocksDB with one family of segments per lane, an id log and dead letters.
// README.md has the bytes, the crash table and the recovery.
#pragma once

#include <memory>

#include "core/error.h"
#include "spool/options.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// Opens (and makes) the spool in `options.dir`. What a crash or a damaged log took is logged.
/// Errors: spool_locked (another process has it), spool_unusable (the directory, or a newer
/// format).
[[nodiscard]] Result<std::unique_ptr<Store>> open_rocks_store(const Options& options);

}  // namespace opsrelay::spool
