#include "spool/disk_usage.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <filesystem>

namespace opsrelay::spool {

Bytes directory_bytes(const std::string& dir) {
    namespace fs = std::filesystem;
    Bytes total;
    std::error_code ec;
    for (fs::recursive_directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        struct stat info {};
        // A file may be gone by now: RocksDB deletes in the background.
        if (::lstat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
        total += Bytes{static_cast<std::uint64_t>(info.st_blocks) * 512};  // stat(2)
    }
    return total;
}

VolumeSpace volume_space(const std::string& dir) noexcept {
    struct statvfs info {};
    if (::statvfs(dir.c_str(), &info) != 0) return {};
    return {Bytes{info.f_bavail * info.f_frsize}, Bytes{info.f_blocks * info.f_frsize}};
}

void measure(const std::string& dir, StoreStats& stats) {
    const auto volume = volume_space(dir);
    stats.disk = directory_bytes(dir);
    stats.volume_free = volume.free;
    stats.volume_size = volume.size;
}

}  // namespace opsrelay::spool
