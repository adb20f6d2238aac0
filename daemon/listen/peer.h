// Who sends: for access lists and for rate limits.
#pragma once

#include <sys/socket.h>

#include <compare>
#include <cstdint>
#include <span>
#include <vector>

namespace opsrelay::listen {

/// A peer within one listener: user and process of a Unix socket, else the IP address.
struct PeerKey {
    std::uint64_t hi = 0;
    std::uint64_t lo = 0;
    auto operator<=>(const PeerKey&) const = default;
};
[[nodiscard]] PeerKey key_of(const ucred& sender) noexcept;
[[nodiscard]] PeerKey key_of(const sockaddr_storage& address) noexcept;
/// The peer of a connection; all zero when it is gone.
[[nodiscard]] PeerKey key_of_connection(int socket) noexcept;

/// Which users may send to a Unix socket. Constant after construction.
class AccessList {
public:
    AccessList() = default;  // everybody
    AccessList(std::vector<std::uint32_t> uids, std::vector<std::uint32_t> gids)
        : uids_(std::move(uids)), gids_(std::move(gids)) {}

    [[nodiscard]] bool everybody() const noexcept { return uids_.empty() && gids_.empty(); }
    /// By user or by one of the groups.
    [[nodiscard]] bool allows(std::uint32_t uid, std::span<const gid_t> gids) const noexcept;
    /// The sender of a datagram, which tells its primary group only.
    [[nodiscard]] bool allows(const ucred& sender) const noexcept;
    /// The peer of a connection, when it connected, with all its groups.
    [[nodiscard]] bool allows_connection(int socket) const;

private:
    std::vector<std::uint32_t> uids_;
    std::vector<std::uint32_t> gids_;
};

}  // namespace opsrelay::listen
