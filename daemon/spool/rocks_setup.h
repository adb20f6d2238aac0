// What opening a spool needs beyond its options: the lanes to make, and the seam through which
// tests let a disk fail.
#pragma once

#include <memory>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "spool/dead_letter.h"
#include "spool/options.h"
#include "spool/store.h"

namespace rocksdb {
class Env;
}

namespace opsrelay::spool {

struct RocksSetup {
    /// Made on first sight, at most kLaneNumbersMax; a lane's number and name never change. Lanes
    /// that the spool has and this list lacks keep their records.
    std::vector<LaneName> lanes{LaneName{}};
    DeadLimits dead;
    /// A database that cannot be opened is neither moved aside nor, where there is none, made:
    /// spool_unusable.
    bool only_as_is = false;
    rocksdb::Env* env = nullptr;  // nullptr: the real one; outlives the store
};

/// As open_rocks_store(options), with another setup.
[[nodiscard]] Result<std::unique_ptr<Store>> open_rocks_store(const Options& options,
                                                              const RocksSetup& setup);

}  // namespace opsrelay::spool
