// A disk on which chosen calls fail: the n-th of a kind on a kind of file, once or for ever, wholly
// or half. For RocksStore, on top of a CrashDisk.
#pragma once

#include <rocksdb/file_system.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "core/enum_table.h"
#include "spool/crash_disk.h"

namespace opsrelay::test {

enum class FaultSite : std::uint8_t {
    log,       // of what was committed
    table,     // id runs too
    manifest,  // and what points to it: CURRENT, its temporary file
    options,
    directory
};
inline constexpr std::array<EnumName<FaultSite>, 5> kFaultSites{{
    {FaultSite::log, "write-ahead log"},
    {FaultSite::table, "table, id run"},
    {FaultSite::manifest, "manifest, CURRENT"},
    {FaultSite::options, "OPTIONS"},
    {FaultSite::directory, "directory"},
}};
static_assert(dense(kFaultSites));

/// sync: fsync and fdatasync; make: a new file; close: of a file that was written. RocksDB cuts no
/// file of ours (it does when it keeps logs over an open, which is off), so there is no truncate.
enum class FaultCall : std::uint8_t { append, sync, make, rename, read, remove, close };
inline constexpr std::array<EnumName<FaultCall>, 7> kFaultCalls{{
    {FaultCall::append, "write"},
    {FaultCall::sync, "sync"},
    {FaultCall::make, "open"},
    {FaultCall::rename, "rename"},
    {FaultCall::read, "read"},
    {FaultCall::remove, "unlink"},
    {FaultCall::close, "close"},
}};
static_assert(dense(kFaultCalls));

enum class FaultMode : std::uint8_t {
    fail,   // nothing of it is done
    half,   // append: half is written; sync: all is safe, though it says otherwise
    silent  // sync: as `fail`, and later syncs of the file say they worked, but did not
};

/// The first `skip` matching calls pass, then `times` fail (0: all).
struct DiskFault {
    FaultSite site = FaultSite::log;
    FaultCall call = FaultCall::append;
    bool no_space = false;  // ENOSPC instead of EIO
    FaultMode mode = FaultMode::fail;
    std::uint64_t skip = 0;
    std::uint64_t times = 1;
};

/// Thread: any.
class FaultDisk final : public rocksdb::FileSystemWrapper {
public:
    explicit FaultDisk(std::shared_ptr<CrashDisk> disk);
    [[nodiscard]] const char* Name() const override { return "FaultDisk"; }

    /// This one from now on, and no other.
    void begin(const DiskFault& fault);
    void end();
    /// While it is on hold every call passes.
    void hold(bool on);
    /// Calls that failed since the last begin().
    [[nodiscard]] std::uint64_t hits() const;

    rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus NewSequentialFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                        rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                          const rocksdb::FileOptions& options,
                                          std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                          rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                                 rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                   std::unique_ptr<rocksdb::FSDirectory>* result,
                                   rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                                 const rocksdb::IOOptions& options,
                                 rocksdb::IODebugContext* debug) override;

    // For the files and directories that it hands out.
    /// The fault that this call meets, if any.
    [[nodiscard]] std::optional<DiskFault> meet(FaultCall call, std::optional<FaultSite> site);
    void lose_unsynced(const std::string& name) { disk_->lose_unsynced(name); }

private:
    const std::shared_ptr<CrashDisk> disk_;
    mutable std::mutex mutex_;
    // Protected by mutex_.
    std::optional<DiskFault> fault_;
    bool held_ = false;
    std::uint64_t seen_ = 0;
    std::uint64_t hits_ = 0;
};

[[nodiscard]] rocksdb::IOStatus error_of(const DiskFault& fault);

}  // namespace opsrelay::test
