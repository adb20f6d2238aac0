#include "spool/fault_disk.h"

#include <filesystem>
#include <utility>

namespace opsrelay::test {

using rocksdb::FSWritableFileOwnerWrapper;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

namespace {

std::optional<FaultSite> site_of(std::string_view path) {
    const auto name = std::filesystem::path(path).filename().string();
    if (name.ends_with(".log")) return FaultSite::log;
    if (name.ends_with(".sst")) return FaultSite::table;
    if (name.starts_with("OPTIONS")) return FaultSite::options;
    if (name.starts_with("MANIFEST") || name == "CURRENT" || name.ends_with(".dbtmp")) {
        return FaultSite::manifest;
    }
    return std::nullopt;
}

class FaultyFile final : public FSWritableFileOwnerWrapper {
public:
    FaultyFile(std::unique_ptr<rocksdb::FSWritableFile>&& file, std::string name, FaultDisk& disk)
        : FSWritableFileOwnerWrapper(std::move(file)),
          name_(std::move(name)),
          site_(site_of(name_)),
          disk_(disk) {}

    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                    IODebugContext* debug) override {
        const auto fault = disk_.meet(FaultCall::append, site_);
        if (!fault) return FSWritableFileOwnerWrapper::Append(data, options, debug);
        if (fault->mode == FaultMode::half && data.size() > 1) {
            const rocksdb::Slice half(data.data(), data.size() / 2);
            auto status = FSWritableFileOwnerWrapper::Append(half, options, debug);
            if (!status.ok()) return status;
        }
        return error_of(*fault);
    }
    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                    const rocksdb::DataVerificationInfo&, IODebugContext* debug) override {
        return Append(data, options, debug);
    }
    IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
        return sync(options, debug);
    }
    IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
        return sync(options, debug);
    }
    IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
        const auto fault = disk_.meet(FaultCall::close, site_);
        auto status = FSWritableFileOwnerWrapper::Close(options, debug);
        return fault ? error_of(*fault)
                     : status;  // as close(2): the descriptor is gone all the same
    }

private:
    IOStatus sync(const IOOptions& options, IODebugContext* debug) {
        const auto fault = disk_.meet(FaultCall::sync, site_);
        if (!fault) return FSWritableFileOwnerWrapper::Sync(options, debug);
        if (fault->mode == FaultMode::silent) disk_.lose_unsynced(name_);
        if (fault->mode == FaultMode::half) {
            auto status = FSWritableFileOwnerWrapper::Sync(options, debug);
            if (!status.ok()) return status;
        }
        return error_of(*fault);
    }

    const std::string name_;
    const std::optional<FaultSite> site_;
    FaultDisk& disk_;
};

class FaultySequentialFile final : public rocksdb::FSSequentialFileOwnerWrapper {
public:
    FaultySequentialFile(std::unique_ptr<rocksdb::FSSequentialFile>&& file, const std::string& name,
                         FaultDisk& disk)
        : FSSequentialFileOwnerWrapper(std::move(file)), site_(site_of(name)), disk_(disk) {}
    IOStatus Read(std::size_t size, const IOOptions& options, rocksdb::Slice* result, char* scratch,
                  IODebugContext* debug) override {
        if (const auto fault = disk_.meet(FaultCall::read, site_)) return error_of(*fault);
        return FSSequentialFileOwnerWrapper::Read(size, options, result, scratch, debug);
    }

private:
    const std::optional<FaultSite> site_;
    FaultDisk& disk_;
};

class FaultyRandomAccessFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
public:
    FaultyRandomAccessFile(std::unique_ptr<rocksdb::FSRandomAccessFile>&& file,
                           const std::string& name, FaultDisk& disk)
        : FSRandomAccessFileOwnerWrapper(std::move(file)), site_(site_of(name)), disk_(disk) {}
    IOStatus Read(std::uint64_t offset, std::size_t size, const IOOptions& options,
                  rocksdb::Slice* result, char* scratch, IODebugContext* debug) const override {
        if (const auto fault = disk_.meet(FaultCall::read, site_)) return error_of(*fault);
        return FSRandomAccessFileOwnerWrapper::Read(offset, size, options, result, scratch, debug);
    }
    IOStatus MultiRead(rocksdb::FSReadRequest* requests, std::size_t count,
                       const IOOptions& options, IODebugContext* debug) override {
        if (const auto fault = disk_.meet(FaultCall::read, site_)) return error_of(*fault);
        return FSRandomAccessFileOwnerWrapper::MultiRead(requests, count, options, debug);
    }

private:
    const std::optional<FaultSite> site_;
    FaultDisk& disk_;
};

class FaultyDirectory final : public rocksdb::FSDirectoryWrapper {
public:
    FaultyDirectory(std::unique_ptr<rocksdb::FSDirectory>&& dir, FaultDisk& disk)
        : FSDirectoryWrapper(std::move(dir)), disk_(disk) {}
    IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
        if (const auto fault = disk_.meet(FaultCall::sync, FaultSite::directory))
            return error_of(*fault);
        return FSDirectoryWrapper::Fsync(options, debug);
    }
    IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                                 const rocksdb::DirFsyncOptions& dir) override {
        if (const auto fault = disk_.meet(FaultCall::sync, FaultSite::directory))
            return error_of(*fault);
        return FSDirectoryWrapper::FsyncWithDirOptions(options, debug, dir);
    }

private:
    FaultDisk& disk_;
};

}  // namespace

IOStatus error_of(const DiskFault& fault) {
    return fault.no_space ? IOStatus::NoSpace("injected") : IOStatus::IOError("injected");
}

FaultDisk::FaultDisk(std::shared_ptr<CrashDisk> disk)
    : FileSystemWrapper(disk), disk_(std::move(disk)) {}

void FaultDisk::begin(const DiskFault& fault) {
    const std::lock_guard lock(mutex_);
    fault_ = fault;
    seen_ = hits_ = 0;
}

void FaultDisk::end() {
    const std::lock_guard lock(mutex_);
    fault_.reset();
}

void FaultDisk::hold(bool on) {
    const std::lock_guard lock(mutex_);
    held_ = on;
}

std::uint64_t FaultDisk::hits() const {
    const std::lock_guard lock(mutex_);
    return hits_;
}

std::optional<DiskFault> FaultDisk::meet(FaultCall call, std::optional<FaultSite> site) {
    const std::lock_guard lock(mutex_);
    if (held_ || !fault_ || fault_->call != call || fault_->site != site) return std::nullopt;
    const auto number = seen_++;
    if (number < fault_->skip) return std::nullopt;
    if (fault_->times != 0 && hits_ >= fault_->times) return std::nullopt;
    ++hits_;
    return fault_;
}

IOStatus FaultDisk::NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    IODebugContext* debug) {
    if (const auto fault = meet(FaultCall::make, site_of(name))) return error_of(*fault);
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = FileSystemWrapper::NewWritableFile(name, options, &file, debug);
    if (status.ok()) *result = std::make_unique<FaultyFile>(std::move(file), name, *this);
    return status;
}

IOStatus FaultDisk::NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                      IODebugContext* debug) {
    std::unique_ptr<rocksdb::FSSequentialFile> file;
    auto status = FileSystemWrapper::NewSequentialFile(name, options, &file, debug);
    if (status.ok()) {
        *result = std::make_unique<FaultySequentialFile>(std::move(file), name, *this);
    }
    return status;
}

IOStatus FaultDisk::NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                        IODebugContext* debug) {
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    auto status = FileSystemWrapper::NewRandomAccessFile(name, options, &file, debug);
    if (status.ok()) {
        *result = std::make_unique<FaultyRandomAccessFile>(std::move(file), name, *this);
    }
    return status;
}

IOStatus FaultDisk::DeleteFile(const std::string& name, const IOOptions& options,
                               IODebugContext* debug) {
    if (const auto fault = meet(FaultCall::remove, site_of(name))) return error_of(*fault);
    return FileSystemWrapper::DeleteFile(name, options, debug);
}

IOStatus FaultDisk::NewDirectory(const std::string& name, const IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 IODebugContext* debug) {
    std::unique_ptr<rocksdb::FSDirectory> dir;
    auto status = FileSystemWrapper::NewDirectory(name, options, &dir, debug);
    if (status.ok()) *result = std::make_unique<FaultyDirectory>(std::move(dir), *this);
    return status;
}

IOStatus FaultDisk::RenameFile(const std::string& from, const std::string& to,
                               const IOOptions& options, IODebugContext* debug) {
    if (const auto fault = meet(FaultCall::rename, site_of(to))) return error_of(*fault);
    return FileSystemWrapper::RenameFile(from, to, options, debug);
}

}  // namespace opsrelay::test
