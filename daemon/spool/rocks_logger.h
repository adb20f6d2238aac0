// What RocksDB writes about itself, in opsrelay's log. Used by rocks_options only.
#pragma once

#include <memory>

namespace rocksdb {
class Logger;
}

namespace opsrelay::spool {

/// Passes RocksDB's warnings and errors on at level debug, each cut to 1 KiB: what matters of them
/// the spool says in words of its own. Keeps no file. The packaged library's own logger does, in
/// the spool's directory, and it aborts the process at the first line after one that did not fit
/// on the disk (EnvLogger and WritableFileWriter in 7.8, which Debian builds with assertions).
/// RocksDB calls it on any of its threads.
[[nodiscard]] std::shared_ptr<rocksdb::Logger> make_logger();

}  // namespace opsrelay::spool
