// Opens a spool whatever state it is in: what cannot be opened is moved aside, what a mishap left
// behind is taken back. Used by RocksStore only.
#pragma once

#include <memory>

#include "core/error.h"
#include "spool/options.h"
#include "spool/rocks_open.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_state.h"

namespace opsrelay::spool {

struct OpenSpool {
    std::unique_ptr<RocksHandle> handle;
    SpoolBook book;
};

/// Refuses only what no program can help: spool_locked (another process has it), spool_unusable
/// (newer format, the directory or its disk cannot be used, a lane with another name). Else what
/// was damaged is kept and logged, and an open spool comes back, an empty one at worst. Work is
/// bounded whatever the backlog, beyond what is damaged.
[[nodiscard]] Result<OpenSpool> open_spool(const Options& options, const RocksSetup& setup,
                                           const std::shared_ptr<rocksdb::EventListener>& listener);

/// The same while the process has ids, numbers and a salt from before: an empty spool would not fit
/// them, so a spool that cannot be opened is left as it is. Errors: spool_corrupt as well.
[[nodiscard]] Result<OpenSpool> reopen_spool(
    const Options& options, const RocksSetup& setup,
    const std::shared_ptr<rocksdb::EventListener>& listener);

}  // namespace opsrelay::spool
