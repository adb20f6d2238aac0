#include "spool/rocks_ids.h"

#include <fmt/format.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/metadata.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/log.h"
#include "spool/keys.h"
#include "spool/rocks_id_file.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

rocksdb::Slice slice(const RunKey& key) { return {key.data(), key.size()}; }

std::string text(RunName name) { return fmt::format("{}-{}", name.generation, name.run); }

/// Where the database keeps each run.
std::map<RunName, std::string> live_files(const RocksHandle& handle) {
    rocksdb::ColumnFamilyMetaData meta;
    handle.db().GetColumnFamilyMetaData(handle.family(kIdsFamily), &meta);
    std::map<RunName, std::string> files;
    for (const auto& level : meta.levels) {
        for (const auto& file : level.files) {
            if (const auto name = parse_run_key(file.smallestkey)) {
                files[*name] = file.db_path + file.name;
            }
        }
    }
    return files;
}

rocksdb::Status delete_run(const RocksHandle& handle, RunName name) {
    const auto first = run_key(name, 0);
    const auto last = run_key(name, kFilterPage);
    const auto begin = slice(first);
    const auto end = slice(last);
    return rocksdb::DeleteFilesInRange(&handle.db(), handle.family(kIdsFamily), &begin, &end);
}

Error run_error(const rocksdb::Status& status, std::string_view what) {
    auto error = rocks_error(status, what);
    if (is_damage(status)) error.code = Errc::spool_corrupt;
    return error;
}

}  // namespace

RocksIds::RocksIds(const Options& options, rocksdb::Env* env)
    : dir_(options.dir + "/runs"), env_(env) {}

std::string RocksIds::file_of(RunName name) const {
    return fmt::format("{}/{}.sst", dir_, text(name));
}

Result<void> RocksIds::prepare() const {
    std::error_code ec;
    fs::remove_all(dir_, ec);
    if (!ec) fs::create_directory(dir_, ec);
    if (!ec) return {};
    return errno_error(Errc::spool_unusable, fmt::format("spool: make {}", dir_), ec.value(),
                       "make it writable for this user or set another spool.dir");
}

Result<IdRun> RocksIds::read_run(const RocksHandle& handle, RunName name) {
    const auto read = make_read_options();
    std::string value;
    auto* const family = handle.family(kIdsFamily);
    auto status = handle.db().Get(read, family, slice(run_key(name, kDescriptorPage)), &value);
    if (!status.ok()) return run_error(status, "descriptor");
    const auto info = decode_descriptor(name, value);
    if (!info) return Error{Errc::spool_corrupt, "not a descriptor"};
    rocksdb::PinnableSlice bytes;
    status = handle.db().Get(read, family, slice(run_key(name, kFilterPage)), &bytes);
    if (!status.ok()) return run_error(status, "filter");
    auto filter = admit::IdFilter::decode(bytes.ToStringView());
    if (!filter) return Error{Errc::spool_corrupt, "not a filter"};
    return IdRun{*info, std::make_shared<const admit::IdFilter>(std::move(*filter))};
}

Result<void> RocksIds::load(const RocksHandle& handle) {
    runs_.clear();
    told_of_damage_ = false;
    for (const auto& [name, file] : live_files(handle)) {
        auto run = read_run(handle, name);
        if (run) {
            log_end_ = std::max(log_end_, run->info.log_end);
            runs_.emplace(name, std::move(*run));
            continue;
        }
        if (run.error().code != Errc::spool_corrupt) {
            return Error{Errc::spool_unusable, fmt::format("id run {}: {}; check the disk",
                                                           text(name), run.error().context)};
        }
        ++damaged_pages_;
        log::error("spool", "an id run cannot be read; repeats of its events are accepted",
                   {{"run", text(name)}, {"file", file}, {"cause", run.error().context}});
        const auto gone = delete_run(handle, name);
        if (!gone.ok()) {
            log::warn("spool", "the damaged id run stays on disk until the next start",
                      {{"run", text(name)}, {"cause", gone.ToString()}});
        }
    }
    for (const auto& run : runs()) retire(handle, run);  // a crash came before they were deleted
    return {};
}

// They stay on disk when that fails, and are found to be stale at the next start.
void RocksIds::retire(const RocksHandle& handle, const IdRun& fresh) {
    for (const auto& name : fresh.info.replaces) {
        if (runs_.erase(name) == 0) continue;
        const auto gone = delete_run(handle, name);
        if (gone.ok()) continue;
        log::warn("spool", "a merged id run stays on disk until the next start",
                  {{"run", text(name)}, {"cause", gone.ToString()}});
    }
}

std::vector<IdRun> RocksIds::runs() const {
    std::vector<IdRun> all;
    for (const auto& [name, run] : runs_) all.push_back(run);
    return all;
}

std::vector<bool> RocksIds::find(const RocksHandle& handle, std::span<const IdHash> ids) {
    std::vector<bool> found(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        // Repeats are mostly of young ids.
        found[i] = std::any_of(runs_.rbegin(), runs_.rend(), [&](const auto& entry) {
            return entry.second.filter->may_contain(ids[i]) && holds(handle, entry.second, ids[i]);
        });
    }
    return found;
}

bool RocksIds::holds(const RocksHandle& handle, const IdRun& run, const IdHash& id) {
    rocksdb::ReadOptions read;  // through the cache: the index is needed again
    read.verify_checksums = true;
    rocksdb::PinnableSlice page;
    const auto key = run_key(run.info.name, page_of(id, run.info.pages));
    const auto status = handle.db().Get(read, handle.family(kIdsFamily), slice(key), &page);
    if (status.ok()) return page_contains(page.ToStringView(), id);
    if (status.IsNotFound()) return false;  // no id fell into it
    ++damaged_pages_;
    if (!std::exchange(told_of_damage_, true)) {
        log::error("spool",
                   "a page of ids cannot be read; repeats of its events are accepted, more such "
                   "pages are only counted",
                   {{"run", text(run.info.name)}, {"cause", status.ToString()}});
    }
    return false;
}

RunJob RocksIds::seal_job(const SealSpec& spec, std::shared_ptr<std::vector<IdHash>> ids) {
    return [env = env_, file = file_of(spec.name), spec, ids = std::move(ids)] {
        return write_run_file(env, file, spec, *ids);
    };
}

RunJob RocksIds::merge_job(const RocksHandle& handle, RunName name, std::span<const RunName> inputs,
                           unsigned filter_bits) {
    const auto files = live_files(handle);
    std::vector<RunInput> found;
    for (const auto& input : inputs) {
        const auto run = runs_.find(input);
        const auto file = files.find(input);
        if (run == runs_.end() || file == files.end()) continue;
        found.push_back({run->second.info, file->second});
    }
    return [env = env_, file = file_of(name), name, found = std::move(found), filter_bits] {
        return merge_run_files(env, file, name, found, filter_bits);
    };
}

Result<void> RocksIds::ingest(const RocksHandle& handle, const NewRun& made) {
    const auto& info = made.run.info;
    if (info.ids > 0) {  // a merge of which nothing could be read leaves nothing to take in
        rocksdb::IngestExternalFileOptions options;
        options.move_files = true;
        options.snapshot_consistency = false;
        options.write_global_seqno = false;
        options.allow_blocking_flush = false;
        const auto status =
            handle.db().IngestExternalFile(handle.family(kIdsFamily), {made.file}, options);
        if (!status.ok()) return rocks_error(status, fmt::format("take in {}", made.file));
        runs_.insert_or_assign(info.name, made.run);
    }
    log_end_ = std::max(log_end_, info.log_end);
    retire(handle, made.run);
    damaged_pages_ += made.damaged_pages;
    std::error_code ignored;
    fs::remove(made.file, ignored);  // left when it could only be copied
    return {};
}

Result<void> RocksIds::drop(const RocksHandle& handle, std::span<const RunName> names) {
    for (const auto& name : names) {
        if (!runs_.contains(name)) continue;
        const auto status = delete_run(handle, name);
        if (!status.ok()) return rocks_error(status, fmt::format("drop id run {}", text(name)));
        runs_.erase(name);
    }
    return {};
}

}  // namespace opsrelay::spool
