#include "spool/rocks_status.h"

#include <fmt/format.h>
#include <rocksdb/status.h>

namespace opsrelay::spool {

Errc classify(const rocksdb::Status& status) noexcept {
    if (status.severity() >= rocksdb::Status::kFatalError) return Errc::spool_reopen;  // sticky
    if (status.IsNoSpace()) return Errc::spool_full;
    if (status.IsCorruption()) return Errc::spool_corrupt;
    if (status.IsBusy() || status.IsTryAgain() || status.IsIncomplete()) return Errc::spool_busy;
    return Errc::spool_io;
}

Error rocks_error(const rocksdb::Status& status, std::string_view what) {
    return {classify(status), fmt::format("{}: {}", what, status.ToString())};
}

bool is_damage(const rocksdb::Status& status) noexcept {
    return !status.ok() && (!status.IsIOError() || status.IsPathNotFound()) &&
           !status.IsNotSupported() && !status.IsNoSpace();
}

}  // namespace opsrelay::spool
