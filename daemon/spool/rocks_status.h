// RocksDB's statuses in our words: the only place where they are mapped.
#pragma once

#include <string_view>

#include "core/error.h"

namespace rocksdb {
class Status;
}

namespace opsrelay::spool {

/// What a caller can do about a failed operation on an open spool.
[[nodiscard]] Errc classify(const rocksdb::Status& status) noexcept;
/// "`what`: text of the status", with classify()'s code.
[[nodiscard]] Error rocks_error(const rocksdb::Status& status, std::string_view what);

/// Whatever it was, it is in the files. A disk that cannot be read or written is something else:
/// what is there may be whole.
[[nodiscard]] bool is_damage(const rocksdb::Status& status) noexcept;

}  // namespace opsrelay::spool
