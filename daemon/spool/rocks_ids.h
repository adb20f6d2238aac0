// The id runs in the database: one file of the `ids` family each. Used by RocksStore only.
// Thread: storage.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "spool/rocks_open.h"
#include "spool/store.h"

namespace rocksdb {
class Env;
}

namespace opsrelay::spool {

class RocksIds {
public:
    /// Where files are made before they become part of the database: Options::dir/runs.
    RocksIds(const Options& options, rocksdb::Env* env);

    /// Makes the directory for new files, without those that a crash left. Before the first load().
    [[nodiscard]] Result<void> prepare() const;
    /// Finds the runs and reads their filters. A run without a readable descriptor or filter is
    /// removed: its ids are forgotten, which is logged and counted. Errors: spool_unusable: the
    /// disk does not let them be read, so they may be whole.
    [[nodiscard]] Result<void> load(const RocksHandle& handle);

    [[nodiscard]] std::vector<IdRun> runs() const;
    [[nodiscard]] std::uint64_t damaged_pages() const noexcept { return damaged_pages_; }
    /// As Store::find_ids().
    [[nodiscard]] std::vector<bool> find(const RocksHandle& handle, std::span<const IdHash> ids);

    /// The id log below is not needed: the furthest that a run says.
    [[nodiscard]] std::uint64_t log_end() const noexcept { return log_end_; }

    [[nodiscard]] RunJob seal_job(const SealSpec& spec, std::shared_ptr<std::vector<IdHash>> ids);
    [[nodiscard]] RunJob merge_job(const RocksHandle& handle, RunName name,
                                   std::span<const RunName> inputs, unsigned filter_bits);
    /// Takes the file into the database, and forgets what it replaces. Errors: as classify().
    [[nodiscard]] Result<void> ingest(const RocksHandle& handle, const NewRun& made);
    /// Deletes the runs' files. Works on a full volume. Errors: as classify().
    [[nodiscard]] Result<void> drop(const RocksHandle& handle, std::span<const RunName> names);

private:
    [[nodiscard]] std::string file_of(RunName name) const;
    [[nodiscard]] static Result<IdRun> read_run(const RocksHandle& handle, RunName name);
    [[nodiscard]] bool holds(const RocksHandle& handle, const IdRun& run, const IdHash& id);

    void retire(const RocksHandle& handle, const IdRun& fresh);

    const std::string dir_;
    rocksdb::Env* const env_;
    std::map<RunName, IdRun> runs_;
    std::uint64_t log_end_ = 0;
    std::uint64_t damaged_pages_ = 0;
    bool told_of_damage_ = false;  // once per load: each page would be a line otherwise
};

}  // namespace opsrelay::spool
