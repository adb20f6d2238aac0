#include "cli/doctor_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

#include "cli/connect.h"
#include "cli/status_text.h"
#include "core/unique_fd.h"

namespace opsrelay::cli {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSampleBytes = 4096;
constexpr std::uint32_t kSlowSyncUs = 50'000;
constexpr std::uint64_t kReserveMax = 64U << 20U;

enum class Lasts : std::uint8_t { reliable, until_reboot, with_container, as_the_server_says };
struct FileSystem {
    std::int64_t kind;
    std::string_view name;
    Lasts lasts;
};
constexpr std::array kFileSystems{
    FileSystem{EXT4_SUPER_MAGIC, "ext4", Lasts::reliable},
    FileSystem{XFS_SUPER_MAGIC, "xfs", Lasts::reliable},
    FileSystem{BTRFS_SUPER_MAGIC, "btrfs", Lasts::reliable},
    FileSystem{F2FS_SUPER_MAGIC, "f2fs", Lasts::reliable},
    FileSystem{0x2fc12fc1, "zfs", Lasts::reliable},
    FileSystem{TMPFS_MAGIC, "tmpfs", Lasts::until_reboot},
    FileSystem{RAMFS_MAGIC, "ramfs", Lasts::until_reboot},
    FileSystem{OVERLAYFS_SUPER_MAGIC, "overlayfs", Lasts::with_container},
    FileSystem{NFS_SUPER_MAGIC, "nfs", Lasts::as_the_server_says},
    FileSystem{SMB2_SUPER_MAGIC, "smb", Lasts::as_the_server_says},
    FileSystem{CIFS_SUPER_MAGIC, "cifs", Lasts::as_the_server_says},
    FileSystem{FUSE_SUPER_MAGIC, "fuse", Lasts::as_the_server_says},
    FileSystem{V9FS_MAGIC, "9p", Lasts::as_the_server_says},
    FileSystem{CEPH_SUPER_MAGIC, "ceph", Lasts::as_the_server_says},
};

Finding finding(const char* check, Health health, std::string detail, std::string remedy = {}) {
    return {fmt::format("spool.{}", check), {}, health, std::move(detail), std::move(remedy)};
}

// --- In the child ---

void measure(const char* directory, const Clock& clock, DiskFacts& facts) {
    struct statfs volume {};
    if (::statfs(directory, &volume) == 0) {
        const auto block = static_cast<std::uint64_t>(volume.f_frsize);
        facts.total = volume.f_blocks * block;
        facts.free = volume.f_bavail * block;
        facts.kind = static_cast<std::int64_t>(volume.f_type);
    }
    int fd = ::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {  // older file systems
        std::array<char, 4096> name{};
        std::snprintf(name.data(), name.size(), "%s/doctor-XXXXXX", directory);
        fd = ::mkostemp(name.data(), O_CLOEXEC);
        if (fd >= 0) ::unlink(name.data());
    }
    if (fd < 0) {
        facts.open_error = errno;
        return;
    }
    const UniqueFd file(fd);
    std::array<char, kSampleBytes> block{};
    std::memset(block.data(), 'x', block.size());
    for (auto& sample : facts.sync_us) {
        const auto began = clock.now();
        if (::write(file.get(), block.data(), block.size()) < 0 || ::fdatasync(file.get()) != 0) {
            facts.write_error = errno;
            return;
        }
        const auto took = std::chrono::duration_cast<microseconds>(clock.now() - began).count();
        sample = static_cast<std::uint32_t>(std::clamp<std::int64_t>(took, 0, UINT32_MAX));
        ++facts.samples;
    }
}

// --- Judging ---

const FileSystem* find_kind(std::int64_t kind) {
    const auto* const found =
        std::find_if(kFileSystems.begin(), kFileSystems.end(),
                     [kind](const FileSystem& one) { return one.kind == kind; });
    return found == kFileSystems.end() ? nullptr : found;
}

Finding judge_kind(const config::Config& config, const DiskFacts& facts) {
    const auto* const known = find_kind(facts.kind);
    if (known == nullptr) {
        return finding("filesystem", Health::ok, fmt::format("of type {:#x}", facts.kind));
    }
    const std::string name(known->name);
    switch (known->lasts) {
        case Lasts::reliable: break;
        case Lasts::until_reboot:
            if (config.ephemeral) break;
            return finding("filesystem", Health::warn, name + ": in memory, lost with a reboot",
                           "name a directory on a disk in spool.dir, or set spool.ephemeral: true");
        case Lasts::with_container:
            if (config.ephemeral) break;
            return finding("filesystem", Health::warn, name + ": lost with the container",
                           "mount a volume at spool.dir, or set spool.ephemeral: true");
        case Lasts::as_the_server_says:
            return finding("filesystem", Health::warn,
                           name + ": as durable as its server makes it, and as fast",
                           "prefer a local disk for spool.dir");
    }
    return finding("filesystem", Health::ok, name);
}

Finding judge_space(const config::Config& config, const DiskFacts& facts) {
    const auto text = [](std::uint64_t bytes) { return size_text(static_cast<double>(bytes)); };
    const auto wanted = config.spool.bytes_max.count;
    const auto detail = fmt::format("{} of {} free, spool.max_bytes is {}", text(facts.free),
                                    text(facts.total), text(wanted));
    if (facts.free < std::min(kReserveMax, facts.total / 10)) {
        return finding("space", Health::fail, detail,
                       "free space on the volume: intake closes while it is nearly full");
    }
    if (facts.free < wanted) {
        return finding("space", Health::warn, detail,
                       "what the spool may still take is less than spool.max_bytes, unless it "
                       "holds the rest already");
    }
    return finding("space", Health::ok, detail);
}

Finding judge_sync(const config::Config& config, const DiskFacts& facts) {
    if (facts.write_error != 0) {
        return finding("sync", Health::fail,
                       fmt::format("write and sync: {}", std::strerror(facts.write_error)),
                       "see the kernel's log for errors of the disk");
    }
    std::vector<std::uint32_t> sorted(facts.sync_us.begin(), facts.sync_us.begin() + facts.samples);
    std::sort(sorted.begin(), sorted.end());
    const auto median = sorted.at(sorted.size() / 2);
    const auto detail =
        fmt::format("write and sync: {:.1f} ms in the middle, {:.1f} ms at worst, of {}",
                    median / 1000.0, sorted.back() / 1000.0, sorted.size());
    const auto patience = static_cast<std::uint64_t>(
        std::chrono::microseconds(config.listen.http_ack_timeout).count());
    if (sorted.back() >= patience) {
        return finding(
            "sync", Health::warn, detail,
            fmt::format("HTTP clients are told 503 after http.ack_timeout ({} ms): use a "
                        "faster disk, or raise it",
                        config.listen.http_ack_timeout.count()));
    }
    if (median > kSlowSyncUs) {
        return finding("sync", Health::warn, detail,
                       "every acknowledgement waits for it: use a faster disk");
    }
    return finding("sync", Health::ok, detail);
}

// spool.dir, or the nearest directory above it that is there.
std::string existing(const std::string& path) {
    std::error_code ec;
    fs::path at(path);
    while (at.has_relative_path() && !fs::exists(at, ec)) at = at.parent_path();
    return at.string();
}

}  // namespace

Result<DiskFacts> look_at_disk(const std::string& directory, const Clock& clock, TimePoint due) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return errno_error(Errc::io, "pipe", errno);
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    const auto child = ::fork();
    if (child < 0) return errno_error(Errc::io, "fork", errno);
    if (child == 0) {
        DiskFacts facts;
        measure(directory.c_str(), clock, facts);
        // Less than PIPE_BUF: whole or not at all.
        ::_exit(::write(writing.get(), &facts, sizeof facts) == sizeof facts ? 0 : 1);
    }
    writing.reset();
    const auto ready = wait_for(reading.get(), POLLIN, clock, due);
    DiskFacts facts;
    const bool whole = ready && ::read(reading.get(), &facts, sizeof facts) == sizeof facts;
    // One that hangs in the disk cannot be waited for; init gets it.
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, whole ? 0 : WNOHANG);
    if (!ready) return ready.error();
    if (!whole) return Error{Errc::io, "the measuring process ended early"};
    return facts;
}

Findings judge_disk(const config::Config& config, const std::string& directory,
                    const DiskFacts& facts) {
    const auto& wanted = config.spool.dir;
    if (facts.open_error != 0) {
        return {finding("directory", Health::fail,
                        fmt::format("{}: {}", directory, std::strerror(facts.open_error)),
                        "name another one in spool.dir, or change its owner; run doctor as the "
                        "daemon's user")};
    }
    Findings found;
    found.push_back(finding("directory", Health::ok,
                            directory == wanted
                                ? fmt::format("{} can be written", wanted)
                                : fmt::format("{} is made at start, in {}", wanted, directory)));
    found.push_back(judge_kind(config, facts));
    found.push_back(judge_space(config, facts));
    found.push_back(judge_sync(config, facts));
    return found;
}

Findings check_disk(const config::Config& config, const Clock& clock, TimePoint due) {
    const auto directory = existing(config.spool.dir);
    const auto facts = look_at_disk(directory, clock, due);
    if (facts) return judge_disk(config, directory, *facts);
    return {finding("sync", Health::fail, fmt::format("{}: {}", directory, facts.error().context),
                    "the disk does not answer: see the kernel's log")};
}

std::optional<int> spool_holder(const std::string& spool_dir) {
    const auto path = spool_dir + "/db/LOCK";
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return std::nullopt;
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(file.get(), F_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
    return static_cast<int>(lock.l_pid);
}

}  // namespace opsrelay::cli
