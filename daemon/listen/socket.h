// Makes listening sockets on loopback addresses, and what all listening sockets have in common.
// Sockets with a path are made by unix_path.h.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/event.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace opsrelay::listen {

/// A bound IP socket and the address it got.
struct IpSocket {
    UniqueFd fd;
    std::string address;  // "127.0.0.1:8710", "[::1]:8710"; the port that was bound
};

/// Binds a UDP (`SOCK_DGRAM`) or a listening TCP (`SOCK_STREAM`) socket, non-blocking. Port 0: any
/// free one. Errors: config_invalid (not a loopback address, unless `allow_remote`),
/// address_in_use, listener_failed.
[[nodiscard]] Result<IpSocket> bind_ip(int type, const std::string& address, std::uint16_t port,
                                       bool allow_remote = false);

/// Asks for a receive buffer, beyond rmem_max where the process may. Returns what was granted.
[[nodiscard]] Bytes set_receive_buffer(int socket, Bytes asked) noexcept;

/// How large it is.
[[nodiscard]] Bytes receive_buffer_of(int socket) noexcept;

/// Every datagram of this Unix socket says who sent it (SO_PASSCRED). One that came before does
/// not.
void ask_for_senders(int socket) noexcept;

/// "127.0.0.1:8710", "[::1]:8710".
[[nodiscard]] std::string show_endpoint(const std::string& address, std::uint16_t port);

/// SOCK_DGRAM or SOCK_STREAM.
[[nodiscard]] int socket_type(ListenerKind kind) noexcept;

/// Makes a non-blocking, close-on-exec socket.
[[nodiscard]] Result<UniqueFd> make_socket(int family, int type, std::string_view what);

/// Length of the queue of connections that wait for accept(2); the kernel caps it at somaxconn.
inline constexpr int kAcceptQueue = 1024;

}  // namespace opsrelay::listen
