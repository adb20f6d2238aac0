#include "cli/connect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

namespace opsrelay::cli {

namespace {

Result<UniqueFd> finish_connect(int family, const sockaddr* address, socklen_t length,
                                const std::string& name, const Clock& clock, TimePoint due) {
    UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return errno_error(Errc::io, fmt::format("socket for {}", name), errno);
    const auto what = fmt::format("connect {}", name);
    while (::connect(fd.get(), address, length) != 0) {
        if (errno == EINTR) continue;
        if (errno == EISCONN) return fd;
        // EAGAIN: the backlog of a Unix listener is full; it cannot be waited for, only retried.
        if (errno == EAGAIN) return Error{Errc::timed_out, what + ": its backlog is full"};
        if (errno != EINPROGRESS && errno != EALREADY) return errno_error(Errc::io, what, errno);
        const auto ready = wait_for(fd.get(), POLLOUT, clock, due);
        if (!ready) return with_prefix(ready.error(), what);
        int failure = 0;
        socklen_t size = sizeof failure;
        if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &failure, &size) != 0) failure = errno;
        if (failure != 0) return errno_error(Errc::io, what, failure);
        return fd;
    }
    return fd;
}

}  // namespace

int poll_timeout(const Clock& clock, TimePoint due) {
    const auto left = std::chrono::ceil<milliseconds>(due - clock.now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, std::numeric_limits<int>::max()));
}

Result<void> wait_for(int fd, short events, const Clock& clock, TimePoint due) {
    for (;;) {
        pollfd entry{fd, events, 0};
        const int ready = ::poll(&entry, 1, poll_timeout(clock, due));
        if (ready > 0) return {};
        if (ready < 0 && errno != EINTR) return errno_error(Errc::io, "poll", errno);
        if (clock.now() >= due) return Error{Errc::timed_out, "no answer in time"};
    }
}

Result<UniqueFd> connect_unix(const std::string& path, const Clock& clock, TimePoint due) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        return Error{Errc::io, fmt::format("connect {}: {} bytes, a socket path may have {}", path,
                                           path.size(), sizeof address.sun_path - 1)};
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    return finish_connect(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address,
                          path, clock, due);
}

bool is_denied(const std::string& path) {
    return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0 && errno == EACCES;
}

Result<UniqueFd> connect_tcp(const std::string& address, std::uint16_t port, const Clock& clock,
                             TimePoint due) {
    const auto name = fmt::format("{} port {}", address, port);
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    if (::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
        return finish_connect(AF_INET, reinterpret_cast<const sockaddr*>(&v4), sizeof v4, name,
                              clock, due);
    }
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    if (::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) != 1) {
        return Error{Errc::io, fmt::format("connect {}: not a numeric address", name)};
    }
    return finish_connect(AF_INET6, reinterpret_cast<const sockaddr*>(&v6), sizeof v6, name, clock,
                          due);
}

}  // namespace opsrelay::cli
