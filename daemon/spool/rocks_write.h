// Writes to an open database, and closes it. Used by RocksStore only. Thread: storage.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace rocksdb {
class Status;
class WriteBatch;
}  // namespace rocksdb

namespace opsrelay::spool {

class RocksHandle;
class Watch;
struct Options;

/// What an open that failed means at start, where nobody waits for space: never spool_full.
[[nodiscard]] Error start_error(Error error);
/// And when it was not the first: spool_full, try again when there is space; or spool_reopen.
[[nodiscard]] Error reopen_error(Error error);

class RocksWriter {
public:
    RocksWriter(std::shared_ptr<Watch> watch, const Options& options)
        : watch_(std::move(watch)), options_(options) {}

    /// All of the batch or nothing; `durable`: returns once it survives power loss. `what` begins
    /// the error's text. Errors: as classify(), with spool_reopen for whatever ended all writing.
    /// After spool_full nothing is tried until the volume has room for the tables that opening
    /// makes of the logs: then spool_reopen.
    [[nodiscard]] Result<void> write(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                     bool durable, std::string_view what);
    /// Makes earlier writes durable. Errors: as write().
    [[nodiscard]] Result<void> sync(const RocksHandle& handle, std::string_view what);
    /// Makes earlier writes durable, then empties the log into tables. Errors: as write().
    [[nodiscard]] Result<void> write_out(const RocksHandle& handle);
    /// Closes the database. False: that would have ended the process (Watch::unclosable()), so it
    /// stays open, without threads that write, and locked, to the end of the process.
    [[nodiscard]] bool close(std::unique_ptr<RocksHandle> handle);

private:
    [[nodiscard]] Error failed(const rocksdb::Status& status, std::string_view what);
    [[nodiscard]] rocksdb::Status flush_full_tables(const RocksHandle& handle);

    std::shared_ptr<Watch> watch_;
    const Options& options_;
    bool log_failed_ = false;    // the last write or sync
    std::size_t written_ = 0;    // bytes since the memory tables were looked at
    std::optional<Error> full_;  // the volume was, and RocksDB takes no write until it is opened
    bool full_told_ = false;     // a durable write was refused for it
};

}  // namespace opsrelay::spool
