#include "spool/rocks_tables.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/sst_file_writer.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>

#include "core/log.h"
#include "core/unique_fd.h"
#include "spool/keys.h"
#include "spool/manifest.h"
#include "spool/rocks_open.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

// table/format.h, of every format since 1: it says where everything else lies and has no checksum.
constexpr std::uint64_t kFooterBytes = 53;
// Files are cut at 16 MiB and a little.
constexpr std::uint64_t kTableBytesMax = 128U << 20U;

// Empty: it can be opened, and those that everything depends on can be read. Errors: spool_io.
Result<std::string> damage_of(const std::string& path, const rocksdb::LiveFileMetaData& table) {
    std::error_code ec;
    const auto size = fs::file_size(path, ec);
    if (ec == std::errc::no_such_file_or_directory) return ec.message();
    if (ec) return Error{Errc::spool_io, fmt::format("read {}: {}", path, ec.message())};
    if (size != table.size) return fmt::format("{} bytes, must be {}", size, table.size);
    rocksdb::SstFileReader reader(make_file_options(table.column_family_name));
    auto status = reader.Open(path);
    // Without the default family the spool cannot be opened; what it says is found in older tables,
    // too. A block of deferred records that cannot be read would hide those behind it.
    const auto& family = table.column_family_name;
    if (status.ok() && (family == kDefaultFamily || family == kDeferredFamily)) {
        status = reader.VerifyChecksum();
    }
    if (status.ok()) return std::string{};
    if (!is_damage(status))
        return Error{Errc::spool_io, fmt::format("read {}: {}", path, status.ToString())};
    return status.ToString();
}

Error io_error(const std::string& what) { return errno_error(Errc::spool_io, what, errno); }

// An empty table is not possible, so it deletes a key that does not exist: the first one with a
// zero behind it.
rocksdb::Status write_small_table(const std::string& path, const rocksdb::LiveFileMetaData& table) {
    const auto options = make_file_options(table.column_family_name);
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(options), options);
    auto status = writer.Open(path);
    if (status.ok()) status = writer.Delete(table.smallestkey + '\0');
    if (status.ok()) status = writer.Finish();
    return status;
}

// Makes it as long as the manifest says, with the footer at the end, where it is looked for.
Result<void> stretch(const std::string& path, std::uint64_t size) {
    std::error_code ec;
    const auto small = fs::file_size(path, ec);
    if (ec || small < kFooterBytes || small > size) {
        return Error{Errc::spool_corrupt, fmt::format("{} is too small to be replaced", path)};
    }
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return io_error(path);
    std::string footer(kFooterBytes, '\0');
    const auto from = static_cast<off_t>(small - kFooterBytes);
    const auto to = static_cast<off_t>(size - kFooterBytes);
    if (::pread(fd.get(), footer.data(), footer.size(), from) !=
            static_cast<ssize_t>(footer.size()) ||
        ::ftruncate(fd.get(), from) != 0 || ::ftruncate(fd.get(), to) != 0 ||
        ::pwrite(fd.get(), footer.data(), footer.size(), to) !=
            static_cast<ssize_t>(footer.size()) ||
        ::fsync(fd.get()) != 0) {
        return io_error(path);
    }
    return {};
}

Result<void> replace(const std::string& path, const rocksdb::LiveFileMetaData& table) {
    const auto fresh = path + ".empty";
    const auto status = write_small_table(fresh, table);
    if (!status.ok()) return rocks_error(status, fresh);
    if (auto done = stretch(fresh, table.size); !done) return done;
    if (::rename(fresh.c_str(), path.c_str()) != 0) return io_error(path);
    return {};
}

Result<std::vector<rocksdb::LiveFileMetaData>> live_tables(
    const std::string& database, const rocksdb::DBOptions& options,
    const std::vector<rocksdb::ColumnFamilyDescriptor>& families) {
    auto lenient = options;
    lenient.paranoid_checks = false;  // tables are not looked at
    lenient.listeners.clear();
    rocksdb::DB* opened = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    const auto status =
        rocksdb::DB::OpenForReadOnly(lenient, database, families, &handles, &opened);
    if (!status.ok()) return rocks_error(status, fmt::format("look into {}", database));
    const RocksHandle handle(std::unique_ptr<rocksdb::DB>(opened), std::move(handles));
    std::vector<rocksdb::LiveFileMetaData> tables;
    handle.db().GetLiveFilesMetaData(&tables);
    return tables;
}

// All families are flushed at once. What the manifest does not know of yet is in logs, the first of
// which was made before its last edit; that one goes only after a later edit, which would be lost.
bool has_every_log(const std::string& database, const ManifestNumbers& numbers) {
    const auto logs = log_files(database);
    return std::any_of(logs.begin(), logs.end(), [&numbers](const std::string& log) {
        return file_number(log) >= numbers.log && file_number(log) < numbers.next_file;
    });
}

}  // namespace

Result<std::vector<LostTable>> replace_damaged_tables(
    const Options& options, const rocksdb::DBOptions& db,
    const std::vector<rocksdb::ColumnFamilyDescriptor>& families, Quarantine& quarantine) {
    const auto database = database_dir(options);
    const auto tables = live_tables(database, db, families);
    if (!tables) return tables.error();
    std::vector<LostTable> lost;
    for (const auto& table : *tables) {
        const auto path = database + table.name;
        std::error_code aside_ec;  // it was named after all
        if (!fs::exists(path, aside_ec))
            fs::rename(tables_dir(options) + table.name, path, aside_ec);
        auto why = damage_of(path, table);
        if (!why) return why.error();
        if (why->empty()) continue;
        const auto kept_as =
            fmt::format("{}-{}", table.column_family_name, table.relative_filename);
        const auto ec = quarantine.keep(path, kept_as);
        if (ec && ec != std::errc::no_such_file_or_directory) {
            return Error{Errc::spool_io, fmt::format("keep {}: {}", path, ec.message())};
        }
        if (auto done = replace(path, table); !done) return done.error();
        lost.push_back({path, table.column_family_name, table.size, std::move(*why)});
    }
    const UniqueFd dir(::open(database.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir || ::fsync(dir.get()) != 0) return io_error(fmt::format("sync {}", database));
    return lost;
}

void set_forgotten_tables_aside(const Options& options) {
    const auto database = database_dir(options);
    const auto numbers = manifest_numbers(database);
    if (!numbers) return;
    const bool whole = has_every_log(database, *numbers);
    for (const auto& path : table_files(database)) {
        if (file_number(path) < numbers->next_file) continue;
        // Nothing but the logs tells which of its records have ended since.
        if (whole && family_of_table(path) == kDeferredFamily) continue;
        std::error_code ec;
        fs::create_directory(tables_dir(options), ec);
        fs::rename(path, fs::path(tables_dir(options)) / fs::path(path).filename(), ec);
        if (ec) log::warn("spool", "a table cannot be set aside", {{"file", path}});
    }
}

std::vector<std::string> table_files(const std::string& dir) {
    std::vector<std::string> found;
    std::error_code ec;
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        if (it->path().extension() == ".sst") found.push_back(it->path());
    }
    std::sort(found.begin(), found.end());  // numbers of equal length
    return found;
}

std::string family_of_table(const std::string& path) {
    const auto name = fs::path(path).filename().string();
    if (const auto dash = name.find('-'); dash != std::string::npos) return name.substr(0, dash);
    rocksdb::SstFileReader reader(make_file_options(kIdLogFamily));
    if (reader.Open(path).ok()) return reader.GetTableProperties()->column_family_name;
    // The properties are near the end. In them the name is plain text behind what its key has of
    // its own.
    const auto table = read_table(path);
    if (!table) return {};
    const auto& bytes = *table;
    constexpr std::string_view kProperty = "name";
    for (std::uint16_t lane = 0; lane < kLaneNumbersMax; ++lane) {
        const auto family = segment_family(LaneId{lane});
        const auto at = bytes.rfind(std::string(kProperty) + family);
        if (at == std::string::npos) continue;
        const auto behind = at + kProperty.size() + family.size();
        if (behind == bytes.size() || bytes[behind] < '0' || bytes[behind] > '9') return family;
    }
    const auto deferred = std::string(kProperty) + std::string(kDeferredFamily);
    if (bytes.rfind(deferred) != std::string::npos) return std::string(kDeferredFamily);
    return {};
}

Result<std::string> read_table(const std::string& path) {
    std::error_code ec;
    const auto size = fs::file_size(path, ec);
    if (ec) return errno_error(Errc::io, fmt::format("read {}", path), ec.value());
    if (size > kTableBytesMax) {
        return Error{Errc::io, fmt::format("read {}: {} bytes are more than a table of ours has "
                                           "(at most {})",
                                           path, size, kTableBytesMax)};
    }
    std::string bytes(size, '\0');
    std::ifstream stream(path, std::ios::binary);
    stream.read(bytes.data(), static_cast<std::streamsize>(size));
    if (!stream) return errno_error(Errc::io, fmt::format("read {}", path), errno);
    return bytes;
}

}  // namespace opsrelay::spool
