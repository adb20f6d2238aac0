// One connection of a stream listener: lines in, cumulative acks out for clients that ask.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <span>

#include "core/task_group.h"
#include "core/unique_fd.h"
#include "listen/listener_state.h"

namespace opsrelay::listen {

/// Serves a connection until the peer's end of stream, an error, or cancellation. While the inlet
/// has no room the socket is left unread. After a first line {"opsrelay":{"acks":true}} it answers
/// {"durable":N,"rejected":M} lines: sent when the counts moved by a commit, else within
/// options.stream_ack_delay; the last one before the connection is closed. Closed without progress
/// for options.stream_ack_timeout, also when the peer does not read its acks, and when storage gave
/// a line up: the client connects again and re-sends what was not acknowledged. `scratch` is the
/// read buffer, shared by all sessions of the thread: nothing stays in it across a wait. `tasks`
/// runs the ack writer; the session ends after it. Thread: ingest.
[[nodiscard]] asio::awaitable<void> serve_stream(UniqueFd connection, ListenerState& state,
                                                 TaskGroup& tasks, std::span<char> scratch);

}  // namespace opsrelay::listen
