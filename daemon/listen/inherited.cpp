#include "listen/inherited.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "listen/socket.h"

namespace opsrelay::listen {

namespace {

namespace ip = boost::asio::ip;

constexpr const char* kNext = "pass bound sockets, listening ones for streams (systemd: *.socket)";

std::string quoted(const std::string& name) {
    return name.empty() ? std::string() : fmt::format(" \"{}\"", name);
}

Error refused(const NamedFd& descriptor, std::string_view complaint) {
    return {Errc::config_invalid,
            fmt::format("inherited descriptor {}{} {}; {}", descriptor.fd.get(),
                        quoted(descriptor.name), complaint, kNext)};
}

int option_of(int fd, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

bool same_address(const std::string& left, const std::string& right) {
    boost::system::error_code ec_left;
    boost::system::error_code ec_right;
    const auto a = ip::make_address(left, ec_left);
    const auto b = ip::make_address(right, ec_right);
    return !ec_left && !ec_right && a == b;
}

std::string unix_path(const sockaddr_storage& storage, socklen_t length) {
    sockaddr_un address{};
    std::memcpy(&address, &storage, sizeof address);
    const auto bytes = static_cast<std::size_t>(length) - offsetof(sockaddr_un, sun_path);
    return {address.sun_path, ::strnlen(address.sun_path, bytes)};
}

std::pair<ip::address, std::uint16_t> ip_endpoint(const sockaddr_storage& storage) {
    if (storage.ss_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, &storage, sizeof v4);
        return {ip::address_v4(ntohl(v4.sin_addr.s_addr)), ntohs(v4.sin_port)};
    }
    sockaddr_in6 v6{};
    std::memcpy(&v6, &storage, sizeof v6);
    ip::address_v6::bytes_type bytes;
    std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
    return {ip::address_v6(bytes), ntohs(v6.sin6_port)};
}

}  // namespace

std::string InheritedSockets::Socket::shown() const {
    return path.empty() ? show_endpoint(address, port) : path;
}

Result<InheritedSockets> InheritedSockets::adopt(std::vector<NamedFd> descriptors) {
    InheritedSockets adopted;
    adopted.any_ = !descriptors.empty();
    for (auto& descriptor : descriptors) {
        auto socket = inspect(std::move(descriptor));
        if (!socket) return socket.error();
        adopted.sockets_.push_back(std::move(*socket));
    }
    return adopted;
}

Result<InheritedSockets::Socket> InheritedSockets::inspect(NamedFd descriptor) {
    const int fd = descriptor.fd.get();
    Socket socket;
    socket.type = option_of(fd, SO_TYPE);
    if (socket.type != SOCK_DGRAM && socket.type != SOCK_STREAM) {
        return refused(descriptor, "is no datagram or stream socket");
    }
    if (socket.type == SOCK_STREAM && option_of(fd, SO_ACCEPTCONN) != 1) {
        return refused(descriptor, "is a stream socket that does not listen");
    }
    sockaddr_storage storage{};
    socklen_t length = sizeof storage;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
        return refused(descriptor, "has no address");
    }
    if (storage.ss_family == AF_UNIX) {
        socket.path = unix_path(storage, length);
        if (socket.path.empty()) return refused(descriptor, "has no path in the file system");
    } else if (storage.ss_family == AF_INET || storage.ss_family == AF_INET6) {
        const auto where = ip_endpoint(storage);
        socket.address = where.first.to_string();
        socket.port = where.second;
        if (socket.port == 0) return refused(descriptor, "is not bound to a port");
    } else {
        return refused(descriptor, "is neither a Unix nor an IP socket");
    }
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return errno_error(Errc::listener_failed, "set up inherited socket " + socket.shown(),
                           errno);
    }
    if (socket.path.empty() && socket.type == SOCK_DGRAM) {
        const int on = 1;
        (void)::setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    }
    socket.fd = std::move(descriptor.fd);
    socket.name = std::move(descriptor.name);
    return socket;
}

std::optional<InheritedSockets::Taken> InheritedSockets::take(int type, const std::string& path) {
    return take_at(std::find_if(sockets_.begin(), sockets_.end(), [&](const Socket& socket) {
        return socket.type == type && !socket.path.empty() && socket.path == path;
    }));
}

std::optional<InheritedSockets::Taken> InheritedSockets::take(int type, const std::string& address,
                                                              std::uint16_t port) {
    return take_at(std::find_if(sockets_.begin(), sockets_.end(), [&](const Socket& socket) {
        return socket.type == type && socket.path.empty() && socket.port == port &&
               same_address(socket.address, address);
    }));
}

std::optional<InheritedSockets::Taken> InheritedSockets::take_at(
    std::vector<Socket>::iterator found) {
    if (found == sockets_.end()) return std::nullopt;
    Taken taken{std::move(found->fd), found->shown()};
    sockets_.erase(found);
    return taken;
}

Result<void> InheritedSockets::all_taken() const {
    if (sockets_.empty()) return {};
    std::string left;
    for (const auto& socket : sockets_) {
        left += fmt::format("{}{} socket {}{}", left.empty() ? "" : ", ",
                            socket.type == SOCK_DGRAM ? "datagram" : "stream", socket.shown(),
                            quoted(socket.name));
    }
    return Error{Errc::config_invalid,
                 fmt::format("inherited, and belongs to no listener: {}; configure a listener of "
                             "this type with this very path or address, or do not pass it",
                             left)};
}

}  // namespace opsrelay::listen
