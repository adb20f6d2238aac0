// The end of a connection whose peer has not said everything.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <span>

#include "listen/listener_state.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

/// After the last reply: closing a socket with unread input resets it, and the peer would lose that
/// reply (RFC 9112 section 9.6). Ends the sending side, then throws away what still comes until the
/// peer closes, for at most a second, up to `bytes_max`, and no longer once the listener stops.
/// `scratch` as in serve_http(). Thread: ingest.
[[nodiscard]] asio::awaitable<void> linger(ReadyFd& socket, const ListenerState& state,
                                           std::span<char> scratch, std::uint64_t bytes_max);

}  // namespace opsrelay::listen
