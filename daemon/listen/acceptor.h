// Accepts connections of one listening socket.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>

#include "core/log.h"
#include "core/task_group.h"
#include "core/unique_fd.h"
#include "listen/listener_state.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

/// Of refused connections so many of a listener stay open until their peers have read why.
inline constexpr std::size_t kLingeringMax = 32;

/// Why a connection is not served.
enum class Refusal : std::uint8_t {
    over_limit,   // of connections
    not_allowed,  // the listener's access list has not its peer
};

/// A session lasts while it holds its place in the budget that all listeners share: a connection
/// over it is accepted, refused (`refuse` may say why to the peer) and closed, counted: at once, or
/// after what was said could be read, which linger() bounds and kLingeringMax.
/// When the process or the host runs out of descriptors it waits instead of spinning. Thread:
/// ingest.
class Acceptor {
public:
    /// Serves one connection until its end; takes a non-blocking descriptor.
    using Serve = std::function<asio::awaitable<void>(UniqueFd)>;
    /// Tells the peer of a refused connection why; must not block.
    using Refuse = std::function<void(int socket, Refusal why)>;

    /// Sessions are spawned into `sessions`, which the owner cancels and joins after this loop.
    Acceptor(TaskGroup& sessions, UniqueFd socket, ListenerState& state, Serve serve,
             Refuse refuse);

    /// Runs until cancelled. After `total` the connections that wait in the queue are still
    /// accepted.
    [[nodiscard]] asio::awaitable<void> run();
    /// The socket's path was made anew: takes what the old queue holds and goes on with this one.
    void replace(UniqueFd socket);

private:
    enum class Turn : std::uint8_t { drained, more, exhausted };

    [[nodiscard]] Turn accept_turn(std::size_t accepts_max);
    [[nodiscard]] asio::awaitable<void> serve(UniqueFd connection);
    void refuse(UniqueFd connection, Refusal why);
    [[nodiscard]] asio::awaitable<void> linger_refused(UniqueFd connection);
    void admit(UniqueFd connection);

    TaskGroup& sessions_;
    std::size_t own_ = 0;        // this listener's part of the budget
    std::size_t lingering_ = 0;  // refused connections that are still open
    ListenerState& state_;
    ReadyFd socket_;
    std::optional<UniqueFd> replacement_;
    Serve serve_;
    Refuse refuse_;
    log::Throttle throttle_;
};

}  // namespace opsrelay::listen
