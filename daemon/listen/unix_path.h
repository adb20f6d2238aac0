// A Unix socket's place in the file system: claimed by a lock file, probed, bound atomically,
// looked after, and given back.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/unique_fd.h"

namespace opsrelay::listen {

/// What to make at a path.
struct UnixSocketSpec {
    int type = 0;      // SOCK_DGRAM or SOCK_STREAM
    std::string path;  // absolute, at most kUnixPathMax bytes
    std::uint32_t mode = 0666;
    std::optional<std::string> group;  // name or number; unset: as created
    bool senders = false;              // from the first datagram on, say who sent it
};

/// sun_path of unix(7) without its terminating zero.
inline constexpr std::size_t kUnixPathMax = 107;

/// The number of a group, given by number or name. Errors: config_invalid, naming it and the socket
/// at `path`. Thread: any.
[[nodiscard]] Result<gid_t> find_group(const std::string& group, const std::string& path);

/// Holds `<path>.lock` (flock(2)) for its lifetime, so that two relays never take turns on one
/// path. The lock file stays: removing it would let two processes lock two files of the same name.
/// The socket is made under a temporary name, gets its group and mode, listens, and is renamed over
/// the path, so that clients see the old socket or a complete new one. Thread: one.
class UnixPath {
public:
    /// Claims the path. Errors: config_invalid (too long, unknown group), address_in_use (another
    /// process holds or serves it), listener_failed (no directory, no permission, not a socket).
    [[nodiscard]] static Result<UnixPath> claim(UnixSocketSpec spec);
    UnixPath(UnixPath&& other) noexcept;
    UnixPath& operator=(UnixPath&&) = delete;
    ~UnixPath() { remove(); }

    /// Makes the socket at the path, replacing a stale one. Errors as claim().
    [[nodiscard]] Result<UniqueFd> bind();
    /// True when the path is gone or is no longer the socket that bind() made.
    [[nodiscard]] bool lost() const noexcept;
    /// Unlinks the path if it is still ours.
    void remove() noexcept;

    [[nodiscard]] const std::string& path() const noexcept { return spec_.path; }

private:
    struct Inode {
        dev_t device = 0;
        ino_t number = 0;
        bool operator==(const Inode&) const = default;
    };

    UnixPath(UnixSocketSpec spec, std::optional<gid_t> group);
    [[nodiscard]] static std::optional<Inode> inode_of(const std::string& path) noexcept;
    [[nodiscard]] Result<void> take_lock();
    [[nodiscard]] Result<void> check_place() const;
    [[nodiscard]] Result<void> probe() const;
    [[nodiscard]] Result<void> bind_temporary(int socket, int directory) const;
    [[nodiscard]] Result<void> publish(int socket, int directory);
    [[nodiscard]] Error failed(const char* what, int error_number, const char* next) const;

    UnixSocketSpec spec_;
    std::string directory_;
    std::string temporary_;  // file name within the directory
    std::optional<gid_t> group_;
    UniqueFd lock_;
    std::optional<Inode> ours_;
};

}  // namespace opsrelay::listen
