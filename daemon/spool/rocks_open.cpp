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
#include <fstream>
#include <functional>
#include <optional>
#include <set>

#include "core/log.h"
#include "spool/disk_budget.h"
#include "spool/disk_plan.h"
#include "spool/keys.h"
#include "spool/manifest.h"
#include "spool/quarantine.h"
#include "spool/rocks_lock.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"
#include "spool/rocks_tables.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

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

bool exists(const std::string& path) {
    std::error_code ec;
    return fs::exists(path, ec);
}

// A directory with records but without CURRENT would be opened as an empty database, and its tables
// deleted as leftovers. One without a log has lost it, since there always is one.
Result<void> check_not_gutted(const std::string& dir) {
    const auto logs = log_files(dir);
    if (restore_current(dir)) {
        log::warn("spool", "the file CURRENT was damaged; it names the newest manifest again",
                  {{"dir", dir}});
    }
    if (exists(dir + "/CURRENT")) {
        const auto numbers = manifest_numbers(dir);
        if (numbers && (logs.empty() || file_number(logs.back()) < numbers->log)) {
            log::error("spool", "the write log is missing; what was only in it is lost",
                       {{"dir", dir}, {"lost_bytes_at_most", kLogBytesMax.count}});
        }
        return {};
    }
    std::error_code ec;
    bool gutted = std::any_of(logs.begin(), logs.end(), [](const std::string& log) {
        std::error_code size_ec;
        return fs::file_size(log, size_ec) > 0 && !size_ec;
    });
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        gutted = gutted || it->path().extension() == ".sst";
    }
    if (ec) {
        return errno_error(Errc::spool_unusable, fmt::format("spool {}", dir), ec.value(),
                           kNextStep);
    }
    if (!gutted) return {};
    return Error{Errc::spool_corrupt, fmt::format("{} has data files but no file CURRENT", dir)};
}

Error open_error(const Options& options, const rocksdb::Status& status) {
    if (is_locked(status)) return locked_error(options, status);
    const auto text = status.ToString();
    if (is_damage(status)) return {Errc::spool_corrupt, text};
    if (status.IsNoSpace()) {
        auto error = unusable(options.dir, text, "free space on its volume");
        error.code = Errc::spool_full;
        return error;
    }
    if (status.IsNotSupported()) {
        return unusable(options.dir, text, "run the version that wrote it");
    }
    return unusable(options.dir, text, kNextStep);
}

// To open another program's database would change it.
Result<void> check_ours(const Options& options, const rocksdb::DBOptions& db,
                        const std::vector<std::string>& families) {
    const auto has = [&families](std::string_view name) {
        return std::find(families.begin(), families.end(), name) != families.end();
    };
    if (has(kIdLogFamily)) return {};  // the last step of making a spool is not the first family
    rocksdb::DB* opened = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    const std::vector<rocksdb::ColumnFamilyDescriptor> only{
        {rocksdb::kDefaultColumnFamilyName, {}}};
    const auto status =
        rocksdb::DB::OpenForReadOnly(db, database_dir(options), only, &handles, &opened);
    if (!status.ok()) return {};  // opening it says why
    const RocksHandle handle(std::unique_ptr<rocksdb::DB>(opened), std::move(handles));
    std::string value;
    const auto format = opened->Get({}, rocksdb::Slice(kFormatKey), &value);
    if (opened->GetLatestSequenceNumber() == 0 || format.ok()) return {};
    return unusable(options.dir, "db/ is a database of another program",
                    "set another spool.dir, or move it away");
}

Result<std::vector<rocksdb::ColumnFamilyDescriptor>> describe_families(
    const Options& options, const RocksSetup& setup, const rocksdb::DBOptions& db) {
    std::set<std::string> names{rocksdb::kDefaultColumnFamilyName, std::string(kIdLogFamily),
                                std::string(kIdsFamily), std::string(kDeadFamily),
                                std::string(kDeferredFamily)};
    for (const auto& lane : setup.lanes) names.insert(segment_family(lane.lane));
    const auto dir = database_dir(options);
    if (exists(dir + "/CURRENT")) {
        std::vector<std::string> stored;
        const auto status = rocksdb::DB::ListColumnFamilies(db, dir, &stored);
        if (!status.ok()) return open_error(options, status);
        if (auto ours = check_ours(options, db, stored); !ours) return ours.error();
        names.insert(stored.begin(), stored.end());
    }
    const auto cache = make_block_cache(options);
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const auto& name : names) {
        families.emplace_back(name, make_family_options(name, options, cache));
    }
    return families;
}

std::optional<std::string> read_current(const std::string& dir) {
    std::ifstream file(dir + "/CURRENT");
    std::string name;
    if (!std::getline(file, name)) return std::nullopt;
    return name;
}

/// What is in a directory, so that files which came later can be told.
class KnownFiles {
public:
    explicit KnownFiles(std::string dir) : dir_(std::move(dir)), current_(read_current(dir_)) {
        for_each([this](const fs::path& path) { names_.insert(path.filename()); });
    }
    /// For an open that failed: until CURRENT names its manifest nothing refers to its files, and
    /// each further one would add the tables that it makes of the logs. Nothing is removed while
    /// somebody has the spool: the files may be what he is making.
    void remove_others(const Options& options) const {
        const auto lock = SpoolLock::take(options);
        if (!lock || read_current(dir_) != current_) return;
        std::vector<fs::path> others;
        for_each([&](const fs::path& path) {
            if (!names_.contains(path.filename())) others.push_back(path);
        });
        std::error_code ec;
        for (const auto& path : others) fs::remove(path, ec);  // else the next one that fails does
    }

private:
    void for_each(const std::function<void(const fs::path&)>& visit) const {
        std::error_code ec;
        for (fs::directory_iterator it(dir_, ec), end; !ec && it != end; it.increment(ec)) {
            visit(it->path());
        }
    }

    const std::string dir_;
    const std::optional<std::string> current_;
    std::set<fs::path> names_;
};

/// The steps of opening one database.
class Opening {
public:
    Opening(const Options& options, rocksdb::DBOptions db,
            std::vector<rocksdb::ColumnFamilyDescriptor> families)
        : options_(options),
          dir_(database_dir(options)),
          db_options_(std::move(db)),
          families_(std::move(families)) {}

    [[nodiscard]] rocksdb::Status run();
    [[nodiscard]] std::unique_ptr<RocksHandle> take() { return std::move(handle_); }

private:
    [[nodiscard]] rocksdb::Status open(rocksdb::WALRecoveryMode mode);
    [[nodiscard]] rocksdb::Status open_by_steps();
    [[nodiscard]] rocksdb::Status read_small_families() const;
    [[nodiscard]] bool replace_tables();
    void keep_logs(const rocksdb::Status& cause);
    [[nodiscard]] bool remove_logs();
    [[nodiscard]] bool has_quarantine();

    const Options& options_;
    const std::string dir_;
    rocksdb::DBOptions db_options_;
    const std::vector<rocksdb::ColumnFamilyDescriptor> families_;
    std::optional<Quarantine> quarantine_;
    bool logs_kept_ = false;
    rocksdb::Status unreadable_;  // the disk could not be read or written, so nothing is damaged
    std::unique_ptr<RocksHandle> handle_;
};

rocksdb::Status Opening::open(rocksdb::WALRecoveryMode mode) {
    db_options_.wal_recovery_mode = mode;
    rocksdb::DB* db = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    const KnownFiles before(dir_);
    const auto status = rocksdb::DB::Open(db_options_, dir_, families_, &handles, &db);
    if (!status.ok()) {
        if (!is_locked(status)) before.remove_others(options_);
        return status;
    }
    handle_ = std::make_unique<RocksHandle>(std::unique_ptr<rocksdb::DB>(db), std::move(handles));
    return status;
}

rocksdb::Status Opening::open_by_steps() {
    using Mode = rocksdb::WALRecoveryMode;
    // A crash cuts the log's tail, which is normal. Damage before the end is not, and the second
    // mode alone would hide it: it drops everything behind the damage and reports success.
    auto status = open(Mode::kTolerateCorruptedTailRecords);
    if (is_damage(status) && replace_tables()) status = open(Mode::kTolerateCorruptedTailRecords);
    if (!unreadable_.ok()) return unreadable_;
    if (!is_damage(status)) return status;
    keep_logs(status);
    status = open(Mode::kPointInTimeRecovery);
    // Tables may hold more than what lies before the damage, which RocksDB refuses to bring
    // together.
    if (is_damage(status) && remove_logs()) status = open(Mode::kPointInTimeRecovery);
    return status;
}

// What the default family holds cannot be done without, so it is read at once; it is small. Of a
// table of it that is damaged older ones hold most. Deferred records are all read at start; in a
// damaged table they are found by their own checksums.
rocksdb::Status Opening::read_small_families() const {
    for (const auto name : {kDefaultFamily, kDeferredFamily}) {
        const std::unique_ptr<rocksdb::Iterator> it(
            handle_->db().NewIterator(make_read_options(), handle_->family(name)));
        it->SeekToFirst();
        while (it->Valid()) it->Next();
        if (!it->status().ok()) return it->status();
    }
    return rocksdb::Status::OK();
}

rocksdb::Status Opening::run() {
    auto status = open_by_steps();
    if (!status.ok()) return status;
    status = read_small_families();
    if (!is_damage(status)) return status;
    handle_.reset();
    if (replace_tables()) return open_by_steps();
    return unreadable_.ok() ? status : unreadable_;
}

bool Opening::has_quarantine() {
    if (quarantine_) return true;
    auto made = Quarantine::make(options_);
    if (made) quarantine_ = std::move(*made);
    return made.has_value();
}

bool Opening::replace_tables() {
    if (!has_quarantine()) return false;
    const auto lost = replace_damaged_tables(options_, db_options_, families_, *quarantine_);
    if (!lost && lost.error().code == Errc::spool_io) {
        unreadable_ = rocksdb::Status::IOError(lost.error().context);
        return false;
    }
    if (!lost) {
        log::warn("spool", "damaged tables cannot be told apart",
                  {{"cause", lost.error().context}});
        return false;
    }
    for (const auto& table : *lost) {
        log::error("spool", "a table cannot be read; what it held is lost, the rest is used",
                   {{"file", table.file},
                    {"family", table.family},
                    {"lost_bytes_at_most", table.bytes},
                    {"cause", table.why},
                    {"kept_in", quarantine_->dir()}});
    }
    return !lost->empty();
}

// Recovery deletes the logs when it has taken from them what it can.
void Opening::keep_logs(const rocksdb::Status& cause) {
    const auto ec =
        has_quarantine() ? quarantine_->keep_logs(dir_) : std::make_error_code(std::errc::io_error);
    logs_kept_ = !ec;
    log::error("spool",
               ec ? "the write log is damaged and could not be copied; records after the damage "
                    "are lost"
                  : "the write log is damaged; what lies behind the damage is looked for",
               {{"kept_in", quarantine_ ? quarantine_->dir() : std::string("nowhere")},
                {"lost_bytes_at_most", quarantine_ ? quarantine_->bytes() : 0},
                {"cause", cause.ToString()},
                {"copy_error", ec ? ec.message() : std::string("none")}});
}

bool Opening::remove_logs() {
    if (!logs_kept_) return false;
    std::error_code ec;
    for (const auto& log : log_files(dir_)) {
        std::error_code file_ec;
        fs::remove(log, file_ec);
        if (file_ec) ec = file_ec;
    }
    return !ec;
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

void RocksHandle::add(rocksdb::ColumnFamilyHandle* family) {
    families_.emplace(family->GetName(), family);
}

rocksdb::ColumnFamilyHandle* RocksHandle::family(std::string_view name) const noexcept {
    const auto found = families_.find(name);
    return found == families_.end() ? nullptr : found->second;
}

Result<std::unique_ptr<RocksHandle>> open_rocks(
    const Options& options, const RocksSetup& setup,
    const std::shared_ptr<rocksdb::EventListener>& listener) {
    const auto dir = database_dir(options);
    const auto none =
        unusable(options.dir, "holds no spool", "name its directory with --spool-dir");
    if (setup.only_as_is && !exists(dir)) return none;
    if (auto made = make_dir(options.dir); !made) return made.error();
    if (auto made = make_dir(dir); !made) return made.error();
    {
        const auto lock = SpoolLock::take(options);  // RocksDB takes it again
        if (!lock) return lock.error();
        if (auto whole = check_not_gutted(dir); !whole) return whole.error();
        if (setup.only_as_is && !exists(dir + "/CURRENT")) return none;
        if (const auto bytes = cut_torn_edit(dir); bytes > 0) {
            log::warn("spool", "the last edit of the manifest was torn; it is cut off",
                      {{"dir", dir}, {"bytes", bytes}});
        }
        set_forgotten_tables_aside(options);
    }
    auto db_options = make_db_options(options);
    if (setup.env != nullptr) db_options.env = setup.env;
    if (listener) db_options.listeners.push_back(listener);
    auto families = describe_families(options, setup, db_options);
    if (!families) return families.error();
    Opening opening(options, db_options, std::move(*families));
    const auto status = opening.run();
    if (!status.ok()) return open_error(options, status);
    return opening.take();
}

}  // namespace opsrelay::spool
