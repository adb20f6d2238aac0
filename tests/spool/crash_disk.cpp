#include "spool/crash_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

namespace opsrelay::test {

namespace fs = std::filesystem;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

namespace {

constexpr std::string_view kTrash = ".trash";

bool is_log(const std::string& name) { return name.ends_with(".log"); }
std::string dir_of(const std::string& name) { return fs::path(name).parent_path().string(); }

class TrackedFile final : public rocksdb::FSWritableFileOwnerWrapper {
public:
    TrackedFile(std::unique_ptr<rocksdb::FSWritableFile>&& file, std::string name, CrashDisk& disk)
        : FSWritableFileOwnerWrapper(std::move(file)), name_(std::move(name)), disk_(disk) {}

    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                    IODebugContext* debug) override {
        auto status = disk_.note_append(name_, data.size());
        if (!status.ok()) return status;
        return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    IOStatus Append(const rocksdb::Slice& data, const IOOptions& options,
                    const rocksdb::DataVerificationInfo&, IODebugContext* debug) override {
        return Append(data, options, debug);
    }
    IOStatus Truncate(std::uint64_t size, const IOOptions& options,
                      IODebugContext* debug) override {
        auto status = disk_.note_truncated(name_, size);
        if (!status.ok()) return status;
        return FSWritableFileOwnerWrapper::Truncate(size, options, debug);
    }
    IOStatus Sync(const IOOptions&, IODebugContext*) override { return disk_.note_sync(name_); }
    IOStatus Fsync(const IOOptions&, IODebugContext*) override { return disk_.note_sync(name_); }

private:
    std::string name_;
    CrashDisk& disk_;
};

class TrackedDirectory final : public rocksdb::FSDirectoryWrapper {
public:
    TrackedDirectory(std::unique_ptr<rocksdb::FSDirectory>&& dir, std::string name, CrashDisk& disk)
        : FSDirectoryWrapper(std::move(dir)), name_(std::move(name)), disk_(disk) {}
    IOStatus Fsync(const IOOptions&, IODebugContext*) override {
        return disk_.note_dir_sync(name_);
    }
    IOStatus FsyncWithDirOptions(const IOOptions&, IODebugContext*,
                                 const rocksdb::DirFsyncOptions&) override {
        return disk_.note_dir_sync(name_);
    }

private:
    std::string name_;
    CrashDisk& disk_;
};

}  // namespace

CrashDisk::CrashDisk(const std::shared_ptr<rocksdb::FileSystem>& base, std::uint64_t seed)
    : FileSystemWrapper(base), rng_(seed) {}

IOStatus CrashDisk::off() const {
    return off_ ? IOStatus::IOError("the power is off") : IOStatus::OK();
}

void CrashDisk::cut() {
    const std::lock_guard lock(mutex_);
    off_ = true;
}

void CrashDisk::restore(bool power_loss, bool tears) {
    const std::lock_guard lock(mutex_);
    if (power_loss) {
        for (const auto& [name, file] : files_) {
            if (file.synced < file.written && fs::exists(name)) forget_unsynced(name, file, tears);
        }
        for (auto& [dir, changes] : dirs_) {
            const auto left = rng_.between(0, changes.size());
            while (changes.size() > left) {
                undo(changes.back());
                changes.pop_back();
            }
        }
    }
    for (auto& [dir, changes] : dirs_) fs::remove_all(dir + std::string(kTrash));
    files_.clear();
    dirs_.clear();
    off_ = full_ = sync_fails_ = false;
}

void CrashDisk::forget_unsynced(const std::string& name, const File& file, bool tears) {
    auto left = file.synced;
    if (rng_.chance(500)) left = rng_.between(file.synced, file.written);
    const auto size = fs::file_size(name);
    if (size <= left) return;
    fs::resize_file(name, left);
    if (tears && rng_.chance(500)) tear(name, left, std::min(size, file.written));
}

// Disks write sectors, file systems pages: the file may have the length of the whole block when
// only a part of it holds what was written.
void CrashDisk::tear(const std::string& name, std::uint64_t from, std::uint64_t end) {
    const std::uint64_t block = rng_.chance(500) ? 512 : 4096;
    end = std::min(end, (from / block + 1) * block);
    const bool zeros = rng_.chance(500);
    std::string rest(end - from, '\0');
    for (auto& byte : rest) byte = zeros ? '\0' : static_cast<char>(rng_.next());
    std::ofstream(name, std::ios::binary | std::ios::app) << rest;
    ++torn_;
}

void CrashDisk::undo(const DirChange& change) {
    switch (change.change) {
        case Change::made: fs::remove(change.name); break;
        case Change::deleted: fs::rename(change.trash, change.name); break;
        case Change::renamed:
            if (fs::exists(change.name)) fs::rename(change.name, change.from);
            if (!change.trash.empty()) fs::rename(change.trash, change.name);
            break;
    }
}

void CrashDisk::lose_unsynced(const std::string& name) {
    const std::lock_guard lock(mutex_);
    files_[name].lost = true;
}

void CrashDisk::fail_next_log_sync(bool landed) {
    const std::lock_guard lock(mutex_);
    sync_fails_ = true;
    sync_lands_ = landed;
}

void CrashDisk::set_full(bool full) {
    const std::lock_guard lock(mutex_);
    full_ = full;
}

IOStatus CrashDisk::NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    IODebugContext* debug) {
    {
        const std::lock_guard lock(mutex_);
        if (off_) return off();
        if (!fs::exists(name))
            dirs_[dir_of(name)].push_back({.change = Change::made, .name = name});
        files_[name] = {};
    }
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = FileSystemWrapper::NewWritableFile(name, options, &file, debug);
    if (status.ok()) *result = std::make_unique<TrackedFile>(std::move(file), name, *this);
    return status;
}

IOStatus CrashDisk::ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* result,
                                       IODebugContext* debug) {
    {
        const std::lock_guard lock(mutex_);
        if (off_) return off();
    }
    std::unique_ptr<rocksdb::FSWritableFile> file;
    auto status = FileSystemWrapper::ReopenWritableFile(name, options, &file, debug);
    if (status.ok()) *result = std::make_unique<TrackedFile>(std::move(file), name, *this);
    return status;
}

IOStatus CrashDisk::LinkFile(const std::string& from, const std::string& to,
                             const IOOptions& options, IODebugContext* debug) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    auto status = FileSystemWrapper::LinkFile(from, to, options, debug);
    if (!status.ok()) return status;
    dirs_[dir_of(to)].push_back({.change = Change::made, .name = to});
    const auto file = files_.find(from);  // the same bytes under another name
    if (file != files_.end()) files_[to] = file->second;
    return status;
}

IOStatus CrashDisk::NewDirectory(const std::string& name, const IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 IODebugContext* debug) {
    std::unique_ptr<rocksdb::FSDirectory> dir;
    auto status = FileSystemWrapper::NewDirectory(name, options, &dir, debug);
    // RocksDB may name it with a slash at the end.
    auto plain = fs::path(name + "/.").lexically_normal().parent_path().string();
    if (status.ok()) {
        *result = std::make_unique<TrackedDirectory>(std::move(dir), std::move(plain), *this);
    }
    return status;
}

// Beside the directory, not in it: RocksDB would find it there.
std::string CrashDisk::keep_aside(const std::string& name) {
    const auto trash = dir_of(name) + std::string(kTrash);
    fs::create_directories(trash);
    auto path = fmt::format("{}/{}", trash, trash_number_++);
    fs::rename(name, path);
    return path;
}

IOStatus CrashDisk::DeleteFile(const std::string& name, const IOOptions&, IODebugContext*) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    if (!fs::exists(name)) return IOStatus::NotFound(name);
    auto trash = keep_aside(name);
    dirs_[dir_of(name)].push_back(
        {.change = Change::deleted, .name = name, .trash = std::move(trash)});
    files_.erase(name);
    return IOStatus::OK();
}

IOStatus CrashDisk::RenameFile(const std::string& from, const std::string& to,
                               const IOOptions& options, IODebugContext* debug) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    DirChange change{.change = Change::renamed, .name = to, .from = from};
    if (fs::exists(to)) change.trash = keep_aside(to);
    auto status = FileSystemWrapper::RenameFile(from, to, options, debug);
    if (!status.ok()) return status;
    dirs_[dir_of(to)].push_back(std::move(change));
    files_.erase(to);
    if (auto moved = files_.extract(from)) {
        moved.key() = to;
        files_.insert(std::move(moved));
    }
    return status;
}

IOStatus CrashDisk::note_append(const std::string& name, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    if (full_ && is_log(name)) return IOStatus::NoSpace("injected");
    files_[name].written += bytes;
    return IOStatus::OK();
}

IOStatus CrashDisk::note_truncated(const std::string& name, std::uint64_t size) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    auto& file = files_[name];
    file.written = std::min(file.written, size);
    file.synced = std::min(file.synced, size);
    return IOStatus::OK();
}

IOStatus CrashDisk::note_sync(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    auto& file = files_[name];
    const bool fails = sync_fails_ && is_log(name);
    if (fails) sync_fails_ = false;
    if (!file.lost && (!fails || sync_lands_)) file.synced = file.written;
    return fails ? IOStatus::IOError("injected") : IOStatus::OK();
}

IOStatus CrashDisk::note_dir_sync(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (off_) return off();
    for (const auto& change : dirs_[name]) {
        if (!change.trash.empty()) fs::remove(change.trash);
    }
    dirs_[name].clear();
    return IOStatus::OK();
}

}  // namespace opsrelay::test
