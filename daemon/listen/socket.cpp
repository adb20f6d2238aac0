#include "listen/socket.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>

namespace opsrelay::listen {

namespace {

namespace ip = boost::asio::ip;

struct IpEndpoint {
    sockaddr_storage storage{};
    socklen_t length = 0;
    sockaddr* get() noexcept { return reinterpret_cast<sockaddr*>(&storage); }
};

IpEndpoint endpoint(const ip::address& address, std::uint16_t port) {
    IpEndpoint made;
    if (address.is_v4()) {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        const auto bytes = address.to_v4().to_bytes();
        std::memcpy(&v4.sin_addr, bytes.data(), bytes.size());
        made.length = sizeof v4;
        std::memcpy(&made.storage, &v4, sizeof v4);
    } else {
        sockaddr_in6 v6{};
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        const auto bytes = address.to_v6().to_bytes();
        std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
        made.length = sizeof v6;
        std::memcpy(&made.storage, &v6, sizeof v6);
    }
    return made;
}

// The port's offset is the same in both address families.
std::uint16_t bound_port(int socket) {
    IpEndpoint bound;
    bound.length = sizeof bound.storage;
    if (::getsockname(socket, bound.get(), &bound.length) != 0) return 0;
    sockaddr_in head{};
    std::memcpy(&head, &bound.storage, sizeof head);
    return ntohs(head.sin_port);
}

Error bind_error(const std::string& what, int error_number) {
    if (error_number == EADDRINUSE) {
        return errno_error(Errc::address_in_use, fmt::format("bind {}", what), error_number,
                           "stop the process that uses the port or configure another one");
    }
    if (error_number == EADDRNOTAVAIL) {
        return errno_error(Errc::listener_failed, fmt::format("bind {}", what), error_number,
                           "use an address this host has, such as 127.0.0.1");
    }
    if (error_number == EACCES) {
        return errno_error(Errc::listener_failed, fmt::format("bind {}", what), error_number,
                           "use a port from 1024 up");
    }
    return errno_error(Errc::listener_failed, fmt::format("bind {}", what), error_number);
}

}  // namespace

std::string show_endpoint(const std::string& address, std::uint16_t port) {
    const bool v6 = address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

int socket_type(ListenerKind kind) noexcept {
    switch (kind) {
        case ListenerKind::unix_datagram:
        case ListenerKind::udp: return SOCK_DGRAM;
        case ListenerKind::unix_stream:
        case ListenerKind::http: return SOCK_STREAM;
    }
    return SOCK_STREAM;
}

Result<UniqueFd> make_socket(int family, int type, std::string_view what) {
    UniqueFd fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) {
        const int error_number = errno;
        return errno_error(Errc::listener_failed, fmt::format("make a socket for {}", what),
                           error_number);
    }
    return fd;
}

Result<IpSocket> bind_ip(int type, const std::string& address, std::uint16_t port,
                         bool allow_remote) {
    boost::system::error_code ec;
    const auto parsed = ip::make_address(address, ec);
    if (ec || (!allow_remote && !parsed.is_loopback())) {
        return Error{Errc::config_invalid,
                     fmt::format("listener address {} is not a loopback address; "
                                 "use 127.0.0.1 or ::1",
                                 address)};
    }
    const auto what = fmt::format("{} {}", type == SOCK_DGRAM ? "UDP" : "TCP",
                                  show_endpoint(parsed.to_string(), port));
    auto fd = make_socket(parsed.is_v4() ? AF_INET : AF_INET6, type, what);
    if (!fd) return fd.error();
    const int on = 1;
    if (parsed.is_v6()) {
        (void)::setsockopt(fd->get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    // Connections of an earlier process that linger in TIME_WAIT must not keep us from starting.
    if (type == SOCK_STREAM) {
        (void)::setsockopt(fd->get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    } else {
        (void)::setsockopt(fd->get(), SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    }
    auto wanted = endpoint(parsed, port);
    if (::bind(fd->get(), wanted.get(), wanted.length) != 0) return bind_error(what, errno);
    if (type == SOCK_STREAM && ::listen(fd->get(), kAcceptQueue) != 0) {
        return bind_error(what, errno);
    }
    auto name = show_endpoint(parsed.to_string(), bound_port(fd->get()));
    return IpSocket{std::move(*fd), std::move(name)};
}

void ask_for_senders(int socket) noexcept {
    const int on = 1;
    (void)::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
}

Bytes set_receive_buffer(int socket, Bytes asked) noexcept {
    const int wanted = static_cast<int>(std::min<std::uint64_t>(asked.count, INT_MAX / 2));
    // FORCE needs CAP_NET_ADMIN; without it the kernel grants at most net.core.rmem_max.
    if (::setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof wanted) != 0) {
        (void)::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
    }
    return receive_buffer_of(socket);
}

Bytes receive_buffer_of(int socket) noexcept {
    int granted = 0;
    socklen_t length = sizeof granted;
    if (::getsockopt(socket, SOL_SOCKET, SO_RCVBUF, &granted, &length) != 0) return {0};
    return {static_cast<std::uint64_t>(granted) / 2};  // the kernel doubles for its bookkeeping
}

}  // namespace opsrelay::listen
