#include "spool/rocks_recovery.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/log.h"
#include "spool/keys.h"
#include "spool/quarantine.h"
#include "spool/rocks_options.h"
#include "spool/rocks_salvage.h"
#include "spool/rocks_tables.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

bool has_salt(const RocksHandle& handle) {
    std::string value;
    const auto status = handle.db().Get(make_read_options(), handle.db().DefaultColumnFamily(),
                                        rocksdb::Slice(kSaltKey), &value);
    return status.ok();
}

void say(const SalvageReport& report, const std::string& from) {
    if (report.records == 0 && report.damaged_bytes == 0) return;
    log::warn("spool", "records were taken back from damaged files",
              {{"from", from},
               {"records", report.records},
               {"segments", report.segments},
               {"lost_bytes_at_most", report.damaged_bytes},
               {"next", "gaps between the records are counted as lost when they are reached"}});
}

// Whether anything was done, so that the book must be read again.
Result<bool> take_back(const Options& options, const RocksHandle& handle, bool with_ids) {
    const auto quarantines = unsalvaged_quarantines(options);
    const auto tables = table_files(tables_dir(options));
    for (const auto& dir : quarantines) {
        const auto report = salvage_files(handle, log_files(dir), table_files(dir), with_ids);
        if (!report) return with_prefix(report.error(), fmt::format("spool {}", options.dir));
        say(*report, dir);
    }
    if (!tables.empty()) {
        const auto report = salvage_files(handle, {}, tables, with_ids);
        if (!report) return with_prefix(report.error(), fmt::format("spool {}", options.dir));
        say(*report, "tables that the manifest does not name");
    }
    for (const auto& dir : quarantines) {
        if (const auto ec = mark_salvaged(options, dir)) {
            return errno_error(Errc::spool_unusable, fmt::format("spool: mark {}", dir), ec.value(),
                               "free space or repair the volume");
        }
    }
    return !quarantines.empty() || !tables.empty();
}

}  // namespace

// Nothing is written before this ends, so that every number in the kept files still means the same.
Result<OpenSpool> reopen_spool(const Options& options, const RocksSetup& setup,
                               const std::shared_ptr<rocksdb::EventListener>& listener) {
    auto handle = open_rocks(options, setup, listener);
    if (!handle) return handle.error();
    OpenSpool spool{std::move(*handle), {}};
    const bool old = has_salt(*spool.handle);
    auto book = load_book(*spool.handle, options, setup);
    if (!book) return book.error();
    const auto taken = take_back(options, *spool.handle, old);
    if (!taken) return Error{Errc::spool_unusable, taken.error().context};
    if (*taken) book = load_book(*spool.handle, options, setup);
    if (!book) return book.error();
    if (auto upgraded = upgrade_format(*spool.handle); !upgraded) return upgraded.error();
    std::error_code ignored;  // looked through again with the next start otherwise
    fs::remove_all(tables_dir(options), ignored);
    spool.book = std::move(*book);
    return spool;
}

Result<OpenSpool> open_spool(const Options& options, const RocksSetup& setup,
                             const std::shared_ptr<rocksdb::EventListener>& listener) {
    auto spool = reopen_spool(options, setup, listener);
    if (spool || spool.error().code != Errc::spool_corrupt) return spool;
    const auto cause = spool.error().context;
    if (setup.only_as_is) {
        return Error{Errc::spool_unusable,
                     fmt::format("spool {}: the database cannot be opened: {}; `opsrelay spool "
                                 "repair` says what can be taken back, with --write it does it",
                                 options.dir, cause)};
    }
    const auto aside = move_database_aside(options);
    if (!aside) return aside.error();
    log::error("spool",
               "the spool cannot be opened; it was moved aside and an empty one takes its place",
               {{"moved_to", *aside},
                {"cause", cause},
                {"lost_bytes_at_most", "unknown until it is repaired"},
                {"next",
                 "stop opsrelay and run `opsrelay spool repair --write`; until then it counts "
                 "against spool.max_bytes, and repeats of its events are accepted"}});
    spool = reopen_spool(options, setup, listener);
    if (spool || spool.error().code != Errc::spool_corrupt) return spool;
    return Error{Errc::spool_unusable,
                 fmt::format("spool {}: a new database cannot be opened: {}; repair the volume",
                             options.dir, spool.error().context)};
}

}  // namespace opsrelay::spool
