#include "spool/quarantine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "core/clock.h"
#include "core/unique_fd.h"
#include "spool/disk_plan.h"
#include "spool/disk_usage.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDamagedPrefix = "damaged-";
constexpr std::string_view kRepairedPrefix = "repaired-";
constexpr std::string_view kSalvagedMark = "/salvaged";
constexpr std::string_view kNextStep = "make it writable for this user or set another spool.dir";

// A second mishap in the same millisecond takes the next one.
std::string free_name(const std::string& prefix) {
    auto at = unix_ms(SystemClock{}.wall_now());
    std::error_code ec;
    while (fs::exists(fmt::format("{}{:013}", prefix, at), ec)) ++at;
    return fmt::format("{}{:013}", prefix, at);
}

std::vector<std::string> children(const std::string& dir, std::string_view prefix) {
    std::vector<std::string> found;
    std::error_code ec;
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        const auto name = it->path().filename().string();
        std::error_code type_ec;
        if (name.starts_with(prefix) && it->is_directory(type_ec)) found.push_back(it->path());
    }
    std::sort(found.begin(), found.end());
    return found;
}

bool is_salvaged(const std::string& quarantine) {
    std::error_code ec;
    return fs::exists(quarantine + std::string(kSalvagedMark), ec);
}

std::error_code sync_path(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) return {errno, std::generic_category()};
    return {};
}

// The newest `keep` of those that were salvaged stay, as far as they leave room for records.
void drop_old(const Options& options, std::size_t keep) {
    auto kept = children(quarantine_dir(options), "");
    std::erase_if(kept, [](const std::string& dir) { return !is_salvaged(dir); });
    auto left = plan_disk(options).quarantines;
    std::error_code ec;
    for (auto dir = kept.rbegin(); dir != kept.rend(); ++dir) {
        const auto bytes = directory_bytes(*dir);
        if (keep == 0 || bytes > left) {
            fs::remove_all(*dir, ec);
            continue;
        }
        --keep;
        left = left - bytes;
    }
}

}  // namespace

std::string database_dir(const Options& options) { return options.dir + "/db"; }
std::string quarantine_dir(const Options& options) { return options.dir + "/quarantine"; }
std::string tables_dir(const Options& options) { return options.dir + "/tables"; }

Result<Quarantine> Quarantine::make(const Options& options) {
    drop_old(options, kQuarantinesMax - 1);
    auto dir = free_name(quarantine_dir(options) + "/");
    std::error_code ec;
    fs::create_directories(dir, ec);
    if (!ec) return Quarantine(std::move(dir));
    return errno_error(Errc::spool_unusable, fmt::format("spool: make {}", dir), ec.value(),
                       kNextStep);
}

std::error_code Quarantine::keep(const std::string& file, const std::string& as) {
    const auto copy = fmt::format("{}/{}", dir_, as);
    std::error_code ec;
    fs::create_hard_link(file, copy, ec);
    if (ec && ec != std::errc::no_such_file_or_directory) fs::copy_file(file, copy, ec);
    if (ec) return ec;
    bytes_ += fs::file_size(copy, ec);
    return {};
}

std::error_code Quarantine::keep_logs(const std::string& database) {
    std::error_code first;
    for (const auto& log : log_files(database)) {
        const auto ec = keep(log, fs::path(log).filename());
        if (!first) first = ec;
    }
    for (const auto& dir : {dir_, fs::path(dir_).parent_path().string()}) {
        if (const auto ec = sync_path(dir); !first) first = ec;
    }
    return first;
}

std::vector<std::string> unsalvaged_quarantines(const Options& options) {
    auto all = children(quarantine_dir(options), "");
    std::erase_if(all, is_salvaged);
    return all;
}

std::error_code mark_salvaged(const Options& options, const std::string& quarantine) {
    const auto mark = quarantine + std::string(kSalvagedMark);
    std::ofstream(mark) << "What could be read here is in the spool again.\n";
    if (const auto ec = sync_path(mark)) return ec;
    if (const auto ec = sync_path(quarantine)) return ec;
    drop_old(options, kQuarantinesMax);
    return {};
}

std::vector<std::string> log_files(const std::string& dir) {
    std::vector<std::string> found;
    std::error_code ec;
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        if (it->path().extension() == ".log") found.push_back(it->path());
    }
    std::sort(found.begin(), found.end());  // numbers of equal length
    return found;
}

Result<std::string> move_database_aside(const Options& options) {
    const auto from = database_dir(options);
    auto to = free_name(fmt::format("{}/{}", options.dir, kDamagedPrefix));
    if (::rename(from.c_str(), to.c_str()) != 0) {
        return errno_error(Errc::spool_unusable, fmt::format("spool: rename {} to {}", from, to),
                           errno, kNextStep);
    }
    // What belongs to it goes with it, so that nothing of it is taken for the new one's.
    std::error_code ignored;
    for (const auto& quarantine : unsalvaged_quarantines(options)) {
        fs::rename(quarantine, fs::path(to) / fs::path(quarantine).filename(), ignored);
    }
    fs::rename(tables_dir(options), to + "/tables", ignored);
    if (const auto ec = sync_path(options.dir)) {
        return errno_error(Errc::spool_unusable, fmt::format("spool: sync {}", options.dir),
                           ec.value(), "repair the volume or set another spool.dir");
    }
    return to;
}

Result<std::string> mark_repaired(const std::string& database) {
    const fs::path from(database);
    const auto time = from.filename().string().substr(kDamagedPrefix.size());
    const std::string to = from.parent_path() / fmt::format("{}{}", kRepairedPrefix, time);
    std::error_code ec;
    fs::rename(from, to, ec);
    if (!ec) ec = sync_path(from.parent_path());
    if (!ec) return to;
    return errno_error(Errc::io, fmt::format("rename {} to {}", database, to), ec.value(),
                       kNextStep);
}

KeptDamage find_damage(const Options& options) {
    return {children(options.dir, kDamagedPrefix), children(options.dir, kRepairedPrefix),
            children(quarantine_dir(options), "")};
}

}  // namespace opsrelay::spool
