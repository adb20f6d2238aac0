#include "listen/unix_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "listen/socket.h"

namespace opsrelay::listen {

namespace {

static_assert(sizeof(sockaddr_un::sun_path) == kUnixPathMax + 1);

constexpr const char* kPermissionNext =
    "run as a user that may write the directory or set run_dir to another one";

sockaddr_un unix_address(const std::string& path) noexcept {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), std::min(path.size(), kUnixPathMax));
    return address;
}

const sockaddr* as_sockaddr(const sockaddr_un& address) noexcept {
    return reinterpret_cast<const sockaddr*>(&address);
}

Errc code_of(int error_number) noexcept {
    return error_number == EADDRINUSE ? Errc::address_in_use : Errc::listener_failed;
}

}  // namespace

Result<gid_t> find_group(const std::string& group, const std::string& path) {
    gid_t number = 0;
    const auto* end = group.data() + group.size();
    const auto [stopped, ec] = std::from_chars(group.data(), end, number);
    if (ec == std::errc{} && stopped == end && !group.empty()) return number;
    std::vector<char> buffer(64U << 10U);  // members' names; ample for a lookup by name
    ::group entry{};
    ::group* found = nullptr;
    const int result = ::getgrnam_r(group.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found != nullptr) return entry.gr_gid;
    const auto what = fmt::format("group \"{}\" of socket {}", group, path);
    if (result != 0) return errno_error(Errc::config_invalid, what, result);
    return Error{Errc::config_invalid,
                 fmt::format("{} does not exist; create it or use a number", what)};
}

UnixPath::UnixPath(UnixSocketSpec spec, std::optional<gid_t> group)
    : spec_(std::move(spec)), group_(group) {
    const auto slash = spec_.path.rfind('/');
    directory_ = slash == 0 ? "/" : spec_.path.substr(0, slash);
    temporary_ = spec_.path.substr(slash + 1) + ".new";
}

UnixPath::UnixPath(UnixPath&& other) noexcept
    : spec_(std::move(other.spec_)),
      directory_(std::move(other.directory_)),
      temporary_(std::move(other.temporary_)),
      group_(other.group_),
      lock_(std::move(other.lock_)),
      ours_(std::exchange(other.ours_, std::nullopt)) {}

Result<UnixPath> UnixPath::claim(UnixSocketSpec spec) {
    if (spec.path.size() > kUnixPathMax) {
        return Error{Errc::config_invalid,
                     fmt::format("socket path {} has {} bytes, the kernel takes at most {}; "
                                 "choose a shorter path or run_dir",
                                 spec.path, spec.path.size(), kUnixPathMax)};
    }
    if (!spec.path.starts_with('/') || spec.path.ends_with('/')) {
        return Error{Errc::config_invalid,
                     fmt::format("socket path \"{}\" is not absolute or names no file; "
                                 "write it like /run/opsrelay/telemetry.sock",
                                 spec.path)};
    }
    std::optional<gid_t> group;
    if (spec.group) {
        const auto found = find_group(*spec.group, spec.path);
        if (!found) return found.error();
        group = *found;
    }
    UnixPath made(std::move(spec), group);
    if (const auto locked = made.take_lock(); !locked) return locked.error();
    if (const auto free = made.check_place(); !free) return free.error();
    return made;
}

Result<UniqueFd> UnixPath::bind() {
    // The directory, and with it the lock file, may have been removed since the claim.
    if (const auto locked = take_lock(); !locked) return locked.error();
    if (const auto free = check_place(); !free) return free.error();
    auto socket = make_socket(AF_UNIX, spec_.type, spec_.path);
    if (!socket) return socket.error();
    const UniqueFd directory(::open(directory_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return failed("open the directory of socket", errno, kPermissionNext);
    auto done = bind_temporary(socket->get(), directory.get());
    if (done) done = publish(socket->get(), directory.get());
    if (!done) {
        (void)::unlinkat(directory.get(), temporary_.c_str(), 0);
        return done.error();
    }
    return std::move(*socket);
}

bool UnixPath::lost() const noexcept { return !ours_ || inode_of(spec_.path) != ours_; }

void UnixPath::remove() noexcept {
    if (ours_ && inode_of(spec_.path) == ours_) (void)::unlink(spec_.path.c_str());
    ours_.reset();
}

std::optional<UnixPath::Inode> UnixPath::inode_of(const std::string& path) noexcept {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return std::nullopt;
    return Inode{status.st_dev, status.st_ino};
}

Result<void> UnixPath::take_lock() {
    const auto name = spec_.path + ".lock";
    if (lock_) {
        struct stat held {};
        if (::fstat(lock_.get(), &held) == 0 && inode_of(name) == Inode{held.st_dev, held.st_ino}) {
            return {};
        }
    }
    UniqueFd file(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) {
        const int error_number = errno;
        if (error_number == ENOENT || error_number == ENOTDIR) {
            return failed("make the lock file of socket", error_number,
                          "create the directory or set run_dir to an existing one");
        }
        return failed("make the lock file of socket", error_number, kPermissionNext);
    }
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        const int error_number = errno;
        if (error_number != EWOULDBLOCK) return failed("lock", error_number, "");
        return Error{Errc::address_in_use,
                     fmt::format("socket {} belongs to another opsrelay (it holds {}); stop it or "
                                 "choose another run_dir",
                                 spec_.path, name)};
    }
    lock_ = std::move(file);
    return {};
}

// Whatever stands at the path must be nothing, or a socket that nobody serves.
Result<void> UnixPath::check_place() const {
    struct stat status {};
    if (::lstat(spec_.path.c_str(), &status) != 0) {
        const int error_number = errno;
        if (error_number == ENOENT) return {};
        return failed("look at socket path", error_number, kPermissionNext);
    }
    if (S_ISSOCK(status.st_mode)) return probe();
    return Error{Errc::listener_failed,
                 fmt::format("socket path {} is {}; remove it or choose another path", spec_.path,
                             S_ISDIR(status.st_mode) ? "a directory" : "a file, not a socket")};
}

Result<void> UnixPath::probe() const {
    const auto socket = make_socket(AF_UNIX, spec_.type, spec_.path);
    if (!socket) return socket.error();
    const auto address = unix_address(spec_.path);
    const int result = ::connect(socket->get(), as_sockaddr(address), sizeof address);
    const int error_number = result == 0 ? 0 : errno;
    // Stale: its owner is gone. ENOENT: it went away meanwhile.
    if (error_number == ECONNREFUSED || error_number == ENOENT) return {};
    if (error_number == EACCES) return failed("probe socket", error_number, kPermissionNext);
    // Connected, a full queue (EAGAIN) or another socket type (EPROTOTYPE): somebody serves it.
    return Error{Errc::address_in_use,
                 fmt::format("socket {} is served by another process; stop it or choose another "
                             "path",
                             spec_.path)};
}

Result<void> UnixPath::bind_temporary(int socket, int directory) const {
    (void)::unlinkat(directory, temporary_.c_str(), 0);  // left by a crash; we hold the lock
    auto name = directory_ == "/" ? "/" + temporary_ : directory_ + "/" + temporary_;
    // The temporary name may be too long where the path itself just fits.
    if (name.size() > kUnixPathMax)
        name = fmt::format("/proc/self/fd/{}/{}", directory, temporary_);
    if (name.size() > kUnixPathMax) {
        return Error{Errc::config_invalid,
                     fmt::format("the file name of socket path {} is too long; choose one of at "
                                 "most 64 bytes",
                                 spec_.path)};
    }
    if (spec_.senders) ask_for_senders(socket);
    // The file is made with the socket's own mode, less the umask: at no moment with more rights.
    (void)::fchmod(socket, spec_.mode);
    const auto address = unix_address(name);
    if (::bind(socket, as_sockaddr(address), sizeof address) != 0) {
        return failed("bind socket", errno, kPermissionNext);
    }
    return {};
}

Result<void> UnixPath::publish(int socket, int directory) {
    const auto* name = temporary_.c_str();
    if (group_ &&
        ::fchownat(directory, name, static_cast<uid_t>(-1), *group_, AT_SYMLINK_NOFOLLOW) != 0) {
        return failed("set the group of socket", errno,
                      "run as a member of the group or leave group unset");
    }
    if (::fchmodat(directory, name, spec_.mode, 0) != 0) {
        return failed("set the mode of socket", errno, "");
    }
    if (spec_.type == SOCK_STREAM && ::listen(socket, kAcceptQueue) != 0) {
        return failed("listen on socket", errno, "");
    }
    struct stat status {};
    if (::fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return failed("look at socket", errno, "");
    }
    const auto file = spec_.path.substr(spec_.path.rfind('/') + 1);
    if (::renameat(directory, name, directory, file.c_str()) != 0) {
        return failed("rename the new socket to", errno, "remove what is in its place");
    }
    ours_ = Inode{status.st_dev, status.st_ino};
    return {};
}

Error UnixPath::failed(const char* what, int error_number, const char* next) const {
    return errno_error(code_of(error_number), fmt::format("{} {}", what, spec_.path), error_number,
                       next);
}

}  // namespace opsrelay::listen
