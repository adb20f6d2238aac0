#include "spool/rocks_write.h"

#include <fmt/format.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>

#include <filesystem>
#include <utility>
#include <vector>

#include "spool/disk_usage.h"
#include "spool/options.h"
#include "spool/rocks_files.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"
#include "spool/rocks_watch.h"

namespace opsrelay::spool {

namespace {

// Memory tables are looked at after this much was written.
constexpr std::size_t kWrittenPerLook = 64U << 10U;
// For manifest, options and a new log, besides the tables.
constexpr Bytes kRoomToOpen{2U << 20U};

Bytes log_bytes(const std::string& dir) {
    namespace fs = std::filesystem;
    Bytes bytes;
    std::error_code ec;
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        std::error_code gone;
        const auto size = it->path().extension() == ".log" ? it->file_size(gone) : 0;
        if (!gone) bytes += Bytes{size};
    }
    return bytes;
}

bool room_to_open(const std::string& dir) {
    const auto volume = volume_space(dir);
    if (volume.size.count == 0) return true;
    return volume.free >= log_bytes(dir) + kRoomToOpen;
}

}  // namespace

Error start_error(Error error) {
    if (error.code == Errc::spool_full) error.code = Errc::spool_unusable;
    return error;
}

Error reopen_error(Error error) {
    if (error.code != Errc::spool_full) error.code = Errc::spool_reopen;
    return error;
}

Result<void> RocksWriter::write(const RocksHandle& handle, rocksdb::WriteBatch& batch, bool durable,
                                std::string_view what) {
    if (full_) {
        // Whoever commits hears of the full volume before it is to open again, for that is not the
        // failure after which a second one ends the process. Acks may have met it first.
        const bool told = std::exchange(full_told_, full_told_ || durable);
        if (!told || !room_to_open(database_dir(options_))) return *full_;
        return Error{Errc::spool_reopen,
                     fmt::format("there is space again after: {}", full_->context)};
    }
    written_ += batch.GetDataSize();
    if (written_ >= kWrittenPerLook) {
        const auto flushed = flush_full_tables(handle);
        if (!flushed.ok()) return failed(flushed, what);
        written_ = 0;
    }
    rocksdb::WriteOptions options;
    options.sync = durable;
    const auto status = handle.db().Write(options, &batch);
    if (!status.ok()) return failed(status, what);
    log_failed_ = false;
    return {};
}

Result<void> RocksWriter::sync(const RocksHandle& handle, std::string_view what) {
    if (log_failed_) {
        // To sync a log that has failed asserts (WritableFileWriter in 7.8). A write does not: it
        // is refused.
        rocksdb::WriteBatch nothing;
        nothing.PutLogData({});
        return write(handle, nothing, true, what);
    }
    const auto status = handle.db().FlushWAL(true);
    if (status.ok()) return {};
    return failed(status, what);
}

Error RocksWriter::failed(const rocksdb::Status& status, std::string_view what) {
    log_failed_ = true;
    auto error = rocks_error(status, what);
    // The first failure comes back without its severity; the listener has heard of it by then.
    if (watch_->fatal()) error.code = Errc::spool_reopen;
    if (error.code == Errc::spool_full) full_ = error;
    return error;
}

// Begins new memory tables, and the writing of the old ones, when one is nearly full. Left to
// itself RocksDB does that in the middle of a write, and if it cannot make the new log then, it
// leaks references to its families and asserts when it is closed (ScheduleFlushes() in 7.8, with
// atomic_flush). When it is asked to, it does not.
rocksdb::Status RocksWriter::flush_full_tables(const RocksHandle& handle) {
    bool full = false;
    std::uint64_t all = 0;
    for (const auto& [name, family] : handle.families()) {
        std::uint64_t bytes = 0;
        const bool known = handle.db().GetIntProperty(
            family, rocksdb::DB::Properties::kCurSizeActiveMemTable, &bytes);
        full = full || (known && bytes >= write_buffer_bytes(name, options_).count / 4 * 3);
        all += known ? bytes : 0;
    }
    // Of many lanes none may be full, and all together be.
    full = full || all >= options_.write_buffers.count / 4 * 3;
    if (!full) return rocksdb::Status::OK();
    rocksdb::FlushOptions options;
    options.wait = false;
    options.allow_write_stall = true;
    watch_->set_flushing(true);
    auto status = flush_tables(handle, options);
    watch_->set_flushing(false);
    return status;
}

Result<void> RocksWriter::write_out(const RocksHandle& handle) {
    constexpr std::string_view kWhat = "write out";
    if (auto synced = sync(handle, kWhat); !synced) return synced;
    const auto status = flush_tables(handle, rocksdb::FlushOptions());
    if (status.ok()) return {};
    return failed(status, kWhat);
}

bool RocksWriter::close(std::unique_ptr<RocksHandle> handle) {
    if (!watch_->unclosable()) return true;
    static std::vector<std::unique_ptr<RocksHandle>>* const left_open =
        new std::vector<std::unique_ptr<RocksHandle>>;  // never destroyed
    rocksdb::CancelAllBackgroundWork(&handle->db(), true);
    left_open->push_back(std::move(handle));
    return false;
}

}  // namespace opsrelay::spool
