// One connection of an HTTP listener.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <span>

#include "core/unique_fd.h"
#include "listen/acceptor.h"
#include "listen/listener_state.h"

namespace opsrelay::listen {

/// Serves requests one after the other until the peer closes, a deadline passes, or cancellation:
/// an idle connection is closed after options.http_idle_timeout, a request must be complete and a
/// reply written within options.http_read_timeout. An event is answered when it is durable, or with
/// 503 after options.http_ack_timeout. `total` cancellation finishes the request in hand. `scratch`
/// is the read buffer, shared by all sessions of the thread: nothing stays in it across a wait.
/// Thread: ingest.
[[nodiscard]] asio::awaitable<void> serve_http(UniqueFd connection, ListenerState& state,
                                               asio::any_io_executor ingest,
                                               std::span<char> scratch);

/// Answers 503 or 403 to a connection that is not served, as far as that is possible without
/// waiting.
void refuse_http(int connection, Refusal why) noexcept;

}  // namespace opsrelay::listen
