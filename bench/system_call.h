// System calls of the measuring programs: an error is an exception with the call's name.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "core/unique_fd.h"

namespace opsrelay::bench {

/// The value of a system call, or its error with the call's name.
template <typename T>
T checked(T value, const char* call) {
    if (value < 0) throw std::system_error(errno, std::generic_category(), call);
    return value;
}

/// Where a socket is: a path with a slash, or a port of 127.0.0.1.
struct Place {
    sockaddr_storage storage{};
    socklen_t length = 0;
    int family = AF_UNIX;

    [[nodiscard]] const sockaddr* address() const {
        return reinterpret_cast<const sockaddr*>(&storage);
    }
};

inline Place place(std::string_view text) {
    Place found;
    if (text.find('/') != std::string_view::npos) {
        auto& unix_address = reinterpret_cast<sockaddr_un&>(found.storage);
        if (text.size() >= sizeof(unix_address.sun_path)) {
            throw std::runtime_error("the socket's path is too long");
        }
        unix_address.sun_family = AF_UNIX;
        std::copy(text.begin(), text.end(), unix_address.sun_path);
        found.length = sizeof(sockaddr_un);
        return found;
    }
    const auto port = std::stoul(std::string(text));
    if (port > UINT16_MAX) throw std::runtime_error("a port is at most 65535");
    auto& inet_address = reinterpret_cast<sockaddr_in&>(found.storage);
    found.family = AF_INET;
    inet_address.sin_family = AF_INET;
    inet_address.sin_port = htons(static_cast<std::uint16_t>(port));
    inet_address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    found.length = sizeof(sockaddr_in);
    return found;
}

/// Bound to `where`; a port of 0 is any free one.
inline UniqueFd bound_socket(const Place& where, int type) {
    UniqueFd fd{checked(::socket(where.family, type | SOCK_CLOEXEC, 0), "socket")};
    checked(::bind(fd.get(), where.address(), where.length), "bind");
    return fd;
}

inline UniqueFd connected_socket(const Place& where, int type) {
    UniqueFd fd{checked(::socket(where.family, type | SOCK_CLOEXEC, 0), "socket")};
    checked(::connect(fd.get(), where.address(), where.length), "connect");
    return fd;
}

inline void send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        bytes.remove_prefix(static_cast<std::size_t>(checked(sent, "send")));
    }
}

}  // namespace opsrelay::bench
