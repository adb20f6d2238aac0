#include "spool/rocks_id_file.h"

#include <fmt/format.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/sst_file_writer.h>

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>

#include "spool/keys.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

rocksdb::Options file_options(rocksdb::Env* env) {
    auto options = make_file_options(kIdsFamily);
    if (env != nullptr) options.env = env;
    return options;
}

rocksdb::Slice slice(const RunKey& key) { return {key.data(), key.size()}; }

/// Takes ids in ascending order.
class RunFileWriter {
public:
    /// `info.ids`: pages and filter are made for so many at most.
    RunFileWriter(rocksdb::Env* env, RunInfo info, unsigned filter_bits)
        : info_(std::move(info)),
          filter_(std::make_shared<admit::IdFilter>(std::max<std::uint64_t>(1, info_.ids),
                                                    filter_bits)),
          options_(file_options(env)),
          writer_(rocksdb::EnvOptions(options_), options_) {
        info_.pages = pages_for(info_.ids);
        info_.ids = 0;
    }

    [[nodiscard]] rocksdb::Status open(const std::string& file) { return writer_.Open(file); }
    [[nodiscard]] rocksdb::Status add(const IdHash& id) {
        if (info_.ids > 0 && id <= last_) return rocksdb::Status::OK();  // the same id again
        const auto page = page_of(id, info_.pages);
        if (page != page_number_) {
            auto status = flush();
            if (!status.ok()) return status;
            page_number_ = page;
        }
        append_id(page_, id);
        filter_->insert(id);
        last_ = id;
        ++info_.ids;
        return rocksdb::Status::OK();
    }
    [[nodiscard]] rocksdb::Status finish() {
        auto status = flush();
        if (status.ok()) {
            status =
                writer_.Put(slice(run_key(info_.name, kDescriptorPage)), encode_descriptor(info_));
        }
        if (status.ok()) {
            status = writer_.Put(slice(run_key(info_.name, kFilterPage)), filter_->encode());
        }
        return status.ok() ? writer_.Finish() : status;
    }
    [[nodiscard]] IdRun run() const { return {info_, filter_}; }

private:
    [[nodiscard]] rocksdb::Status flush() {
        if (page_.empty()) return rocksdb::Status::OK();
        auto status = writer_.Put(slice(run_key(info_.name, page_number_)), page_);
        page_.clear();
        return status;
    }

    RunInfo info_;
    std::shared_ptr<admit::IdFilter> filter_;
    rocksdb::Options options_;
    rocksdb::SstFileWriter writer_;
    std::string page_;
    std::uint32_t page_number_ = 0;
    IdHash last_;
};

/// Reads the ids of one run in order, around pages that cannot be read.
class RunReader {
public:
    RunReader(rocksdb::Env* env, const RunInput& input)
        : info_(input.info), reader_(file_options(env)) {
        const auto status = reader_.Open(input.file);
        if (!status.ok()) {
            take_note(status);
            damaged_ = info_.pages;
            next_page_ = info_.pages;
            return;
        }
        auto read = make_read_options();
        it_.reset(reader_.NewIterator(read));
        it_->Seek(slice(run_key(info_.name, 0)));
        load();
    }
    [[nodiscard]] bool at_end() const noexcept { return index_ == ids_in_page(page_); }
    [[nodiscard]] IdHash id() const noexcept { return id_at(page_, index_); }
    void next() {
        if (++index_ < ids_in_page(page_)) return;
        it_->Next();
        load();
    }
    [[nodiscard]] std::uint64_t damaged_pages() const noexcept { return damaged_; }
    /// Why reading has ended although the pages may be whole: the disk.
    [[nodiscard]] const rocksdb::Status& unreadable() const noexcept { return unreadable_; }

private:
    void take_note(const rocksdb::Status& status) {
        if (!is_damage(status)) unreadable_ = status;
    }
    // Makes the page at the iterator, or the next one that can be read, the current one.
    void load() {
        index_ = 0;
        page_ = {};
        while (next_page_ < info_.pages) {
            if (it_->Valid()) {
                const auto key = it_->key().ToStringView();
                const auto number = parse_run_page(key);
                if (!number || *number >= info_.pages) return;  // behind the last page
                next_page_ = *number + 1;
                page_ = it_->value().ToStringView();
                if (ids_in_page(page_) > 0) return;
                ++damaged_;
                it_->Next();
                continue;
            }
            if (it_->status().ok()) return;
            take_note(it_->status());
            if (!unreadable_.ok()) break;
            ++damaged_;
            it_->Seek(slice(run_key(info_.name, ++next_page_)));
        }
        page_ = {};
    }

    const RunInfo info_;
    rocksdb::SstFileReader reader_;
    std::unique_ptr<rocksdb::Iterator> it_;
    std::string_view page_;  // of the iterator
    std::size_t index_ = 0;
    std::uint32_t next_page_ = 0;
    std::uint64_t damaged_ = 0;
    rocksdb::Status unreadable_;
};

RunInfo merged_info(RunName name, std::span<const RunInput> inputs) {
    RunInfo whole;
    whole.name = name;
    whole.oldest_ms = std::numeric_limits<std::int64_t>::max();
    for (const auto& [info, file] : inputs) {
        whole.ids += info.ids;
        whole.oldest_ms = std::min(whole.oldest_ms, info.oldest_ms);
        whole.newest_ms = std::max(whole.newest_ms, info.newest_ms);
        whole.log_end = std::max(whole.log_end, info.log_end);
        whole.replaces.push_back(info.name);
    }
    return whole;
}

Result<NewRun> failed(const rocksdb::Status& status, const std::string& file) {
    return rocks_error(status, fmt::format("write the id run {}", file));
}

}  // namespace

Result<NewRun> write_run_file(rocksdb::Env* env, const std::string& file, const SealSpec& spec,
                              std::vector<IdHash>& ids) {
    std::sort(ids.begin(), ids.end());
    RunFileWriter writer(
        env, {spec.name, ids.size(), spec.oldest_ms, spec.newest_ms, 0, spec.log_end, {}},
        spec.filter_bits);
    auto status = writer.open(file);
    for (auto id = ids.begin(); status.ok() && id != ids.end(); ++id) status = writer.add(*id);
    if (status.ok()) status = writer.finish();
    if (!status.ok()) return failed(status, file);
    return NewRun{writer.run(), file, 0};
}

Result<NewRun> merge_run_files(rocksdb::Env* env, const std::string& file, RunName name,
                               std::span<const RunInput> inputs, unsigned filter_bits) {
    const auto whole = merged_info(name, inputs);
    std::vector<std::unique_ptr<RunReader>> readers;
    const auto later = [&readers](std::size_t a, std::size_t b) {
        return readers[b]->id() < readers[a]->id();
    };
    std::priority_queue<std::size_t, std::vector<std::size_t>, decltype(later)> heads(later);
    for (const auto& input : inputs) {
        readers.push_back(std::make_unique<RunReader>(env, input));
        if (!readers.back()->at_end()) heads.push(readers.size() - 1);
    }
    RunFileWriter writer(env, whole, filter_bits);
    auto status = writer.open(file);
    while (status.ok() && !heads.empty()) {
        const auto first = heads.top();
        heads.pop();
        status = writer.add(readers[first]->id());
        readers[first]->next();
        if (!readers[first]->at_end()) heads.push(first);
    }
    for (const auto& reader : readers) {
        if (status.ok()) status = reader->unreadable();
    }
    if (status.ok()) status = writer.finish();
    if (!status.ok()) return failed(status, file);
    NewRun made{writer.run(), file, 0};
    for (const auto& reader : readers) made.damaged_pages += reader->damaged_pages();
    return made;
}

}  // namespace opsrelay::spool
