#include "spool/rocks_open.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/listener.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "core/clock.h"
#include "core/log.h"
#include "spool/keys.h"
#include "spool/rocks_options.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kQuarantinesMax = 4;
constexpr std::string_view kNextStep = "make it writable for this user or set another spool.dir";

Error unusable(const std::string& dir, std::string_view why, std::string_view next) {
    return {Errc::spool_unusable, fmt::format("spool {}: {}; {}", dir, why, next)};
}

Result<void> make_dir(const std::string& dir) {
    std::error_code ec;
    const auto parent = fs::path(dir).parent_path();
    if (!parent.empty()) fs::create_directories(parent, ec);  // mkdir below says what went wrong
    if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
        return errno_error(Errc::spool_unusable, fmt::format("spool: make {}", dir), errno,
                           kNextStep);
    }
    struct stat info {};
    if (::stat(dir.c_str(), &info) != 0) {
        return errno_error(Errc::spool_unusable, fmt::format("spool: stat {}", dir), errno,
                           kNextStep);
    }
    if (!S_ISDIR(info.st_mode)) {
        return errno_error(Errc::spool_unusable, fmt::format("spool {}", dir), ENOTDIR,
                           "move that file away or set another spool.dir");
    }
    if (::access(dir.c_str(), R_OK | W_OK | X_OK) != 0) {
        return errno_error(Errc::spool_unusable, fmt::format("spool {}", dir), errno, kNextStep);
    }
    return {};
}

// A directory with tables but without CURRENT would be opened as an empty database, and its tables
// deleted as leftovers.
Result<void> check_not_gutted(const Options& options) {
    const auto dir = database_dir(options);
    std::error_code ec;
    if (fs::exists(dir + "/CURRENT", ec)) return {};
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        if (it->path().extension() != ".sst") continue;
        return unusable(dir, "has data files but no file CURRENT",
                        fmt::format("move {} aside to start with an empty spool", dir));
    }
    if (ec)
        return errno_error(Errc::spool_unusable, fmt::format("spool {}", dir), ec.value(),
                           kNextStep);
    return {};
}

Error open_error(const Options& options, const rocksdb::Status& status) {
    const auto text = status.ToString();
    if (text.find("While lock file") != std::string::npos ||
        text.find("lock hold by current process") != std::string::npos) {
        return {Errc::spool_locked,
                fmt::format("spool {}: another process has it open; stop that one or set another "
                            "spool.dir ({})",
                            options.dir, text)};
    }
    if (status.IsNoSpace()) return unusable(options.dir, text, "free space on its volume");
    if (status.IsCorruption()) {
        return unusable(options.dir, text,
                        fmt::format("move {} aside to start with an empty spool and keep it: its "
                                    "records can be recovered",
                                    database_dir(options)));
    }
    return unusable(options.dir, text, kNextStep);
}

void drop_old_quarantines(const std::string& dir) {
    std::error_code ec;
    std::vector<fs::path> kept;
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        kept.push_back(it->path());
    }
    std::sort(kept.begin(), kept.end());  // names are times of equal length
    for (std::size_t i = 0; i + kQuarantinesMax <= kept.size(); ++i) fs::remove_all(kept[i], ec);
}

// Keeps the damaged logs: recovery deletes them when it has taken from them what it can.
void quarantine_logs(const Options& options, const rocksdb::Status& cause) {
    const auto all = quarantine_dir(options);
    std::error_code ec;
    fs::create_directories(all, ec);
    drop_old_quarantines(all);
    const auto dir = fmt::format("{}/{:013}", all, unix_ms(SystemClock{}.wall_now()));
    fs::create_directories(dir, ec);
    std::uint64_t bytes = 0;
    for (fs::directory_iterator it(database_dir(options), ec), end; !ec && it != end;
         it.increment(ec)) {
        if (it->path().extension() != ".log") continue;
        const auto copy = fs::path(dir) / it->path().filename();
        std::error_code file_ec;
        bytes += it->file_size(file_ec);
        fs::create_hard_link(it->path(), copy, file_ec);
        if (file_ec) fs::copy_file(it->path(), copy, file_ec);
        if (file_ec && !ec) ec = file_ec;
    }
    log::error("spool",
               ec ? "the write log is damaged and could not be copied; records after the damage "
                    "are lost"
                  : "the write log is damaged; records after the damage are lost, the log is kept",
               {{"kept_in", dir},
                {"lost_bytes_at_most", bytes},
                {"cause", cause.ToString()},
                {"copy_error", ec ? ec.message() : std::string("none")}});
}

Result<std::vector<rocksdb::ColumnFamilyDescriptor>> describe_families(
    const Options& options, const RocksSetup& setup, const rocksdb::DBOptions& db) {
    std::set<std::string> names{rocksdb::kDefaultColumnFamilyName, std::string(kIdLogFamily),
                                std::string(kIdsFamily), std::string(kDeadFamily)};
    for (const auto& lane : setup.lanes) names.insert(segment_family(lane.lane));
    const auto dir = database_dir(options);
    std::error_code ec;
    if (fs::exists(dir + "/CURRENT", ec)) {
        std::vector<std::string> stored;
        const auto status = rocksdb::DB::ListColumnFamilies(db, dir, &stored);
        if (!status.ok()) return open_error(options, status);
        names.insert(stored.begin(), stored.end());
    }
    const auto cache = make_block_cache();
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const auto& name : names) families.emplace_back(name, make_family_options(name, cache));
    return families;
}

}  // namespace

RocksHandle::RocksHandle(std::unique_ptr<rocksdb::DB> db,
                         std::vector<rocksdb::ColumnFamilyHandle*> families)
    : db_(std::move(db)) {
    for (auto* const family : families) families_.emplace(family->GetName(), family);
}

RocksHandle::~RocksHandle() {
    for (const auto& [name, family] : families_) {
        db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();  // frees the handle only
    }
    const auto status = db_->Close();
    if (!status.ok()) {
        log::warn("spool", "close failed; the next start replays the log",
                  {{"cause", status.ToString()}});
    }
}

rocksdb::ColumnFamilyHandle* RocksHandle::family(std::string_view name) const noexcept {
    const auto found = families_.find(name);
    return found == families_.end() ? nullptr : found->second;
}

std::string database_dir(const Options& options) { return options.dir + "/db"; }
std::string quarantine_dir(const Options& options) { return options.dir + "/quarantine"; }

Result<std::unique_ptr<RocksHandle>> open_rocks(
    const Options& options, const RocksSetup& setup,
    const std::shared_ptr<rocksdb::EventListener>& listener) {
    if (auto made = make_dir(options.dir); !made) return made.error();
    const auto dir = database_dir(options);
    if (auto made = make_dir(dir); !made) return made.error();
    if (auto whole = check_not_gutted(options); !whole) return whole.error();

    auto db_options = make_db_options();
    if (setup.env != nullptr) db_options.env = setup.env;
    if (listener) db_options.listeners.push_back(listener);
    const auto families = describe_families(options, setup, db_options);
    if (!families) return families.error();

    rocksdb::DB* db = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    // A crash cuts the log's tail, which is normal. Damage before the end is not, and the second
    // mode alone would hide it: it drops everything behind the damage and reports success.
    db_options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
    auto status = rocksdb::DB::Open(db_options, dir, *families, &handles, &db);
    if (status.IsCorruption()) {
        quarantine_logs(options, status);
        db_options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
        status = rocksdb::DB::Open(db_options, dir, *families, &handles, &db);
    }
    if (!status.ok()) return open_error(options, status);
    return std::make_unique<RocksHandle>(std::unique_ptr<rocksdb::DB>(db), std::move(handles));
}

}  // namespace opsrelay::spool
