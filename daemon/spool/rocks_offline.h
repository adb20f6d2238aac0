// A spool opened for reading only: nothing in its directory changes. Used by the offline commands.
#pragma once

#include <memory>
#include <optional>

#include "core/error.h"
#include "spool/offline.h"
#include "spool/options.h"
#include "spool/rocks_lock.h"
#include "spool/rocks_open.h"
#include "spool/rocks_state.h"

namespace opsrelay::spool {

/// Held while it is read, so that no daemon starts on it; not taken where that would make a file.
/// Errors: spool_locked; spool_unusable: there is no spool.
[[nodiscard]] Result<std::optional<SpoolLock>> lock_for_reading(const Options& options);

struct ReadOnlySpool {
    std::unique_ptr<RocksHandle> handle;
    SpoolBook book;
};
/// Under the lock. Errors: spool_corrupt: it cannot be opened; spool_unusable: newer format.
[[nodiscard]] Result<ReadOnlySpool> open_read_only(const Options& options);
/// As export_records(), of one that is open. Errors: as classify().
[[nodiscard]] Result<ExportReport> export_open(const ReadOnlySpool& spool, const RecordSink& sink);

}  // namespace opsrelay::spool
