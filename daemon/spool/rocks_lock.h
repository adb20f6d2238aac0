// The lock of a spool: one process at a time. RocksDB takes the same one while the database is
// open.
#pragma once

#include <memory>

#include "core/error.h"
#include "spool/options.h"

namespace rocksdb {
class FileLock;
class Status;
}  // namespace rocksdb

namespace opsrelay::spool {

/// Held while it lives; the kernel releases it when the process dies.
class SpoolLock {
public:
    /// The database's directory exists. Errors: spool_locked; spool_unusable.
    [[nodiscard]] static Result<SpoolLock> take(const Options& options);

private:
    struct Release {
        void operator()(rocksdb::FileLock* lock) const;
    };
    explicit SpoolLock(rocksdb::FileLock* lock) : lock_(lock) {}

    std::unique_ptr<rocksdb::FileLock, Release> lock_;
};

/// Whether an operation failed because another process, or this one, has the spool open.
[[nodiscard]] bool is_locked(const rocksdb::Status& status);
[[nodiscard]] Error locked_error(const Options& options, const rocksdb::Status& status);

}  // namespace opsrelay::spool
