#include "spool/rocks_lock.h"

#include <fmt/format.h>
#include <rocksdb/env.h>
#include <rocksdb/status.h>

#include "spool/quarantine.h"

namespace opsrelay::spool {

Result<SpoolLock> SpoolLock::take(const Options& options) {
    rocksdb::FileLock* lock = nullptr;
    const auto status = rocksdb::Env::Default()->LockFile(database_dir(options) + "/LOCK", &lock);
    if (status.ok()) return SpoolLock(lock);
    if (is_locked(status)) return locked_error(options, status);
    return Error{
        Errc::spool_unusable,
        fmt::format("spool {}: {}; make it writable for this user or set another spool.dir",
                    options.dir, status.ToString())};
}

void SpoolLock::Release::operator()(rocksdb::FileLock* lock) const {
    rocksdb::Env::Default()->UnlockFile(lock).PermitUncheckedError();  // closing the file suffices
}

bool is_locked(const rocksdb::Status& status) {
    const auto text = status.ToString();
    return text.find("While lock file") != std::string::npos ||
           text.find("lock hold by current process") != std::string::npos;
}

Error locked_error(const Options& options, const rocksdb::Status& status) {
    return {Errc::spool_locked,
            fmt::format("spool {}: another process has it open; stop that one or set another "
                        "spool.dir ({})",
                        options.dir, status.ToString())};
}

}  // namespace opsrelay::spool
