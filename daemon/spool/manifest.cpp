#include "spool/manifest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "core/unique_fd.h"
#include "spool/wal_reader.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kManifestPrefix = "MANIFEST-";
constexpr std::size_t kCurrentBytesMax = 4096;
// The fields that come first, in an order of their own; the others are not looked at.
constexpr std::uint64_t kComparator = 1;  // text
constexpr std::uint64_t kLogNumber = 2;
constexpr std::uint64_t kNextFileNumber = 3;
constexpr std::uint64_t kPreviousLogNumber = 9;
constexpr std::uint64_t kDatabaseId = 16;  // text

std::optional<std::uint64_t> take_number(std::string_view& rest) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest.empty(); shift += 7) {
        const auto byte = static_cast<std::uint8_t>(rest.front());
        rest.remove_prefix(1);
        value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
        if (byte < 0x80) return value;
    }
    return std::nullopt;
}

void take_edit(std::string_view edit, ManifestNumbers& numbers) {
    while (const auto tag = take_number(edit)) {
        const auto value = take_number(edit);
        if (!value) return;
        if (*tag == kComparator || *tag == kDatabaseId) {
            if (*value > edit.size()) return;
            edit.remove_prefix(*value);
        } else if (*tag == kLogNumber) {
            numbers.log = std::max(numbers.log, *value);
        } else if (*tag == kNextFileNumber) {
            numbers.next_file = *value;
        } else if (*tag != kPreviousLogNumber) {
            return;
        }
    }
}

std::optional<std::string> current_manifest(const std::string& database) {
    std::ifstream current(database + "/CURRENT");
    std::string name;
    if (!std::getline(current, name) || !name.starts_with(kManifestPrefix)) return std::nullopt;
    return fmt::format("{}/{}", database, name);
}

std::optional<ManifestNumbers> read_manifest(const std::string& path) {
    std::ifstream stream(path, std::ios::binary);
    WalReader reader(stream);
    WalRecord record;
    ManifestNumbers numbers;
    while (reader.next(record)) {
        if (record.whole) take_edit(record.bytes, numbers);
    }
    if (numbers.next_file == 0) return std::nullopt;
    return numbers;
}

}  // namespace

std::optional<ManifestNumbers> manifest_numbers(const std::string& database) {
    const auto path = current_manifest(database);
    return path ? read_manifest(*path) : std::nullopt;
}

std::uint64_t cut_torn_edit(const std::string& database) {
    const auto path = current_manifest(database);
    if (!path) return 0;
    std::ifstream stream(*path, std::ios::binary);
    WalReader reader(stream);
    WalRecord record;
    std::uint64_t end = 0;
    bool damaged = false;
    while (reader.next(record)) {
        if (damaged && record.whole) return 0;
        damaged = damaged || !record.whole;
        if (record.whole) end = record.end;
    }
    if (stream.bad()) return 0;  // a disk that cannot be read says nothing of what is on it
    if (!damaged || reader.damaged_bytes() == 0 || end == 0) return 0;
    std::error_code ec;
    const auto size = fs::file_size(*path, ec);
    const UniqueFd fd(ec ? -1 : ::open(path->c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd || ::ftruncate(fd.get(), static_cast<::off_t>(end)) != 0) return 0;
    return ::fsync(fd.get()) == 0 ? size - end : 0;
}

std::uint64_t file_number(const std::string& path) {
    const auto name = fs::path(path).stem().string();
    std::uint64_t number = 0;
    const auto [stop, ec] = std::from_chars(name.data(), name.data() + name.size(), number);
    return ec == std::errc{} ? number : 0;
}

bool restore_current(const std::string& database) {
    const auto current = database + "/CURRENT";
    std::ifstream stream(current, std::ios::binary);
    std::string named(kCurrentBytesMax, '\0');
    stream.read(named.data(), static_cast<std::streamsize>(named.size()));
    if (stream.bad()) return false;  // RocksDB meets the same error, and refuses
    named.resize(static_cast<std::size_t>(stream.gcount()));
    std::error_code ec;
    std::vector<std::string> manifests;
    for (fs::directory_iterator it(database, ec), end; !ec && it != end; it.increment(ec)) {
        const auto name = it->path().filename().string();
        if (!name.starts_with(kManifestPrefix)) continue;
        if (named == name + "\n") return false;
        // A new one is whole once the first edit follows what it begins with.
        if (read_manifest(it->path())) manifests.push_back(name);
    }
    if (ec || manifests.empty()) return false;
    const auto wanted = *std::max_element(manifests.begin(), manifests.end()) + "\n";
    const auto fresh = current + ".dbtmp";  // which RocksDB removes when it is left behind
    std::ofstream(fresh, std::ios::binary) << wanted;
    for (const auto& path : {fresh, database}) {
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd || ::fsync(fd.get()) != 0) return false;
        if (path == fresh && ::rename(fresh.c_str(), current.c_str()) != 0) return false;
    }
    return true;
}

}  // namespace opsrelay::spool
