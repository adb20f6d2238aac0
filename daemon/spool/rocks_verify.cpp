#include <fmt/format.h>
#include <rocksdb/sst_file_reader.h>

#include <filesystem>
#include <memory>
#include <utility>

#include "spool/dead_letter.h"
#include "spool/deferred.h"
#include "spool/keys.h"
#include "spool/manifest.h"
#include "spool/offline.h"
#include "spool/quarantine.h"
#include "spool/rocks_log.h"
#include "spool/rocks_offline.h"
#include "spool/rocks_options.h"
#include "spool/rocks_tables.h"
#include "spool/segment.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

class Verification {
public:
    Verification(const Options& options, const Progress& progress)
        : options_(options), progress_(progress) {}

    void run();
    [[nodiscard]] VerifyReport take() { return std::move(report_); }

private:
    void check_open();
    void check_table(const std::string& file);
    void check_log(const std::string& file, bool last);
    void check_value(std::string_view family, std::string_view key, std::string_view value,
                     const std::string& where);
    void find(std::string where, std::string what);
    void note_file(const std::string& file);

    const Options& options_;
    const Progress& progress_;
    std::uint64_t total_ = 0;
    VerifyReport report_;
};

void Verification::run() {
    const auto dir = database_dir(options_);
    const auto tables = table_files(dir);
    const auto logs = log_files(dir);
    for (const auto* const files : {&tables, &logs}) {
        for (const auto& file : *files) {
            std::error_code ec;
            total_ += fs::file_size(file, ec);
        }
    }
    check_open();
    for (const auto& file : tables) check_table(file);
    for (const auto& file : logs) check_log(file, file == logs.back());
    const auto kept = find_damage(options_);
    for (const auto& database : kept.databases) {
        find(database, "was moved aside; `opsrelay spool repair` takes its records back");
    }
    for (const auto& quarantine : unsalvaged_quarantines(options_)) {
        find(quarantine, "was not looked through; the next start does");
    }
}

// What only shows when the parts are put together: a manifest, a table that is missing.
void Verification::check_open() {
    const auto dir = database_dir(options_);
    const auto numbers = manifest_numbers(dir);
    const auto logs = log_files(dir);
    if (!numbers) {
        find(dir, "CURRENT or the manifest that it names cannot be read");
    } else if (logs.empty() || file_number(logs.back()) < numbers->log) {
        find(dir, fmt::format("the write log {:06} is missing", numbers->log));
    }
    const auto spool = open_read_only(options_);
    if (!spool) return find(dir, spool.error().context);
    const auto exported = export_open(*spool, [](const StoredRecord&) { return true; });
    if (!exported) return find(dir, exported.error().context);
    if (exported->lost == 0) return;
    find(dir, fmt::format("{} records are missing or cannot be read, by their numbers; the daemon "
                          "counts them as lost when it reaches them",
                          exported->lost));
}

void Verification::check_table(const std::string& file) {
    const auto options = make_file_options(kDefaultFamily);
    rocksdb::SstFileReader reader(options);
    auto status = reader.Open(file);
    if (status.ok()) status = reader.VerifyChecksum();
    if (!status.ok()) find(file, status.ToString());
    const auto family = family_of_table(file);
    if (status.ok()) {
        const std::unique_ptr<rocksdb::Iterator> it(reader.NewIterator(make_read_options()));
        for (it->SeekToFirst(); it->Valid(); it->Next()) {
            check_value(family, it->key().ToStringView(), it->value().ToStringView(), file);
        }
    }
    note_file(file);
}

// What a crash cut off at the end of the last log is no damage.
void Verification::check_log(const std::string& file, bool last) {
    const auto put = [&](FamilyNumber family, std::string_view key, std::string_view value) {
        const bool is_segment = family != kDefaultFamilyNumber && read_segment_outline(value);
        if (is_segment) check_value(segment_family(kDefaultLane), key, value, file);
    };
    const auto read = visit_log(file, {put, [](FamilyNumber, std::string_view) {}});
    if (!read) {
        find(file, read.error().context);
    } else if (read->damaged_bytes > 0 || (read->torn_bytes > 0 && !last)) {
        find(file, fmt::format("{} bytes of {} records are damaged",
                               read->damaged_bytes + read->torn_bytes, read->damaged_records));
    }
    note_file(file);
}

void Verification::check_value(std::string_view family, std::string_view key,
                               std::string_view value, const std::string& where) {
    if (family == kDeadFamily) {
        const auto letter = decode_dead_letter(value);
        if (!letter) find(where, letter.error().context);
        return;
    }
    if (family == kDeferredFamily) {
        const auto stored = decode_deferred(value);
        if (!stored) find(where, stored.error().context);
        if (stored) ++report_.records;
        return;
    }
    if (!parse_segment_family(family)) return;
    const auto first = parse_seq_key(key);
    if (!first) {
        find(where, fmt::format("a key of {} bytes, must be 8", key.size()));
        return;
    }
    const auto segment = decode_segment(value, *first);
    if (!segment) {
        find(where, segment.error().context);
        return;
    }
    ++report_.segments;
    report_.records += segment->offsets.size() - 1;
}

void Verification::find(std::string where, std::string what) {
    ++report_.damaged;
    if (report_.findings.size() >= kFindingsMax) return;
    report_.findings.push_back({std::move(where), std::move(what)});
}

void Verification::note_file(const std::string& file) {
    std::error_code ec;
    ++report_.files;
    report_.bytes += fs::file_size(file, ec);
    if (progress_) progress_(report_.bytes, total_);
}

}  // namespace

Result<VerifyReport> verify(const Options& options, const Progress& progress) {
    const auto lock = lock_for_reading(options);
    if (!lock) return lock.error();
    Verification verification(options, progress);
    verification.run();
    return verification.take();
}

}  // namespace opsrelay::spool
