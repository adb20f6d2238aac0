#include "listen/peer.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace opsrelay::listen {

namespace {

constexpr std::size_t kGroupsMax = 65'536;  // NGROUPS_MAX of Linux

std::optional<ucred> credentials_of(int socket) noexcept {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
    return peer;
}

// SO_PEERGROUPS (Linux 4.13): ERANGE says how large the answer is.
std::vector<gid_t> groups_of(int socket) {
    std::vector<gid_t> groups(32);
    auto size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    while (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) {
        const std::size_t wanted = size / sizeof(gid_t);
        if (errno != ERANGE || wanted <= groups.size() || wanted > kGroupsMax) return {};
        groups.resize(wanted);
    }
    groups.resize(size / sizeof(gid_t));
    return groups;
}

}  // namespace

PeerKey key_of(const ucred& sender) noexcept {
    return {UINT64_MAX, std::uint64_t{sender.uid} << 32U | static_cast<std::uint32_t>(sender.pid)};
}

PeerKey key_of(const sockaddr_storage& address) noexcept {
    PeerKey key;
    if (address.ss_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, &address, sizeof v4);
        key.lo = v4.sin_addr.s_addr;
    } else if (address.ss_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, &address, sizeof v6);
        std::memcpy(&key.hi, v6.sin6_addr.s6_addr, sizeof key.hi);
        std::memcpy(&key.lo, v6.sin6_addr.s6_addr + sizeof key.hi, sizeof key.lo);
    }
    return key;
}

PeerKey key_of_connection(int socket) noexcept {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
    if (address.ss_family != AF_UNIX) return key_of(address);
    const auto peer = credentials_of(socket);
    return peer ? key_of(*peer) : PeerKey{};
}

bool AccessList::allows(std::uint32_t uid, std::span<const gid_t> gids) const noexcept {
    if (everybody()) return true;
    if (std::find(uids_.begin(), uids_.end(), uid) != uids_.end()) return true;
    return std::find_first_of(gids_.begin(), gids_.end(), gids.begin(), gids.end()) != gids_.end();
}

bool AccessList::allows(const ucred& sender) const noexcept {
    return allows(sender.uid, {&sender.gid, 1});
}

bool AccessList::allows_connection(int socket) const {
    if (everybody()) return true;
    const auto peer = credentials_of(socket);
    if (!peer) return false;
    if (allows(*peer)) return true;
    return !gids_.empty() && allows(peer->uid, groups_of(socket));
}

}  // namespace opsrelay::listen
