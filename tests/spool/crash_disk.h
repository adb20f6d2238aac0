// A disk whose power can fail: it forgets what was not synced, like a real one. For RocksStore.
#pragma once

#include <rocksdb/file_system.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/random.h"

namespace opsrelay::test {

/// Wraps a real file system. Tracks for each file written through it how many bytes were synced,
/// and for each directory what was made, renamed or deleted since it was synced. After a power loss
/// of every file a prefix is left that holds at least what was synced, and of every directory's
/// changes a prefix in their order. Now and then the last block that was being written is torn: its
/// beginning is there, the rest of its sector or page is zeros or rubbish. Thread: any; cut() and
/// restore() while nothing else uses it is up to the caller.
class CrashDisk final : public rocksdb::FileSystemWrapper {
public:
    CrashDisk(const std::shared_ptr<rocksdb::FileSystem>& base, std::uint64_t seed);
    [[nodiscard]] const char* Name() const override { return "CrashDisk"; }

    /// From now on nothing reaches the disk: every write, sync, rename and deletion fails. What a
    /// dying process still tries has no effect.
    void cut();
    /// The disk works again. With `power_loss` it has lost what was not synced; else only the
    /// process died. `tears`: blocks may be torn.
    void restore(bool power_loss, bool tears = true);

    /// A sync of this file has failed. As on Linux, what was not synced by then never will be: the
    /// pages count as written, and later syncs succeed without them.
    void lose_unsynced(const std::string& name);
    /// The next sync of a log fails; nobody knows whether the bytes are safe (`landed` does).
    void fail_next_log_sync(bool landed);
    /// Appends to logs fail with "no space" while set.
    void set_full(bool full);
    /// Blocks that power losses have torn.
    [[nodiscard]] std::uint64_t torn() const noexcept { return torn_; }

    rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus ReopenWritableFile(const std::string& name,
                                         const rocksdb::FileOptions& options,
                                         std::unique_ptr<rocksdb::FSWritableFile>* result,
                                         rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                   std::unique_ptr<rocksdb::FSDirectory>* result,
                                   rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                                 rocksdb::IODebugContext* debug) override;
    rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                                 const rocksdb::IOOptions& options,
                                 rocksdb::IODebugContext* debug) override;

    // For the files and directories that it hands out.
    [[nodiscard]] rocksdb::IOStatus note_append(const std::string& name, std::uint64_t bytes);
    [[nodiscard]] rocksdb::IOStatus note_truncated(const std::string& name, std::uint64_t size);
    [[nodiscard]] rocksdb::IOStatus note_sync(const std::string& name);
    [[nodiscard]] rocksdb::IOStatus note_dir_sync(const std::string& name);

private:
    struct File {
        std::uint64_t written = 0;
        std::uint64_t synced = 0;
        bool lost = false;  // lose_unsynced(): `synced` stays as it is
    };
    enum class Change : std::uint8_t { made, renamed, deleted };  // made: or linked
    struct DirChange {
        Change change;
        std::string name;
        std::string from{};   // renamed: the old name
        std::string trash{};  // deleted, or replaced by a rename: where the old file is kept
    };
    [[nodiscard]] rocksdb::IOStatus off() const;
    [[nodiscard]] std::string keep_aside(const std::string& name);
    void undo(const DirChange& change);
    void forget_unsynced(const std::string& name, const File& file, bool tears);
    void tear(const std::string& name, std::uint64_t from, std::uint64_t end);

    std::mutex mutex_;
    // Protected by mutex_.
    Xoshiro rng_;
    bool off_ = false;
    bool full_ = false;
    bool sync_fails_ = false;
    bool sync_lands_ = false;
    std::uint64_t trash_number_ = 0;
    std::uint64_t torn_ = 0;
    std::map<std::string, File> files_;
    std::map<std::string, std::vector<DirChange>> dirs_;  // changes since the last sync, in order
};

}  // namespace opsrelay::test
