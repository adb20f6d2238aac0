#include "listen/acceptor.h"

#include <sys/socket.h>

#include <array>
#include <boost/asio/this_coro.hpp>
#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#include "listen/linger.h"
#include "listen/socket.h"

namespace opsrelay::listen {

namespace {

constexpr std::size_t kAcceptsPerTurn = 64;  // then running sessions get a turn
constexpr std::size_t kDrainMax = kAcceptQueue + 1;
constexpr milliseconds kExhaustedPause{200};
constexpr std::uint64_t kRefusedBytesMax = 128U << 10U;  // an event and its head
constexpr milliseconds kLogInterval{60'000};

// Gives a place in the budget back however a session ends.
class Place {
public:
    Place(ConnectionBudget& budget, std::size_t& own) noexcept : budget_(budget), own_(own) {}
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() {
        budget_.give_back();
        --own_;
    }

private:
    ConnectionBudget& budget_;
    std::size_t& own_;
};

// One less, however a refusal ends.
class Counted {
public:
    explicit Counted(std::size_t& count) noexcept : count_(count) {}
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --count_; }

private:
    std::size_t& count_;
};

}  // namespace

Acceptor::Acceptor(TaskGroup& sessions, UniqueFd socket, ListenerState& state, Serve serve,
                   Refuse refuse)
    : sessions_(sessions),
      state_(state),
      socket_(sessions.executor(), std::move(socket)),
      serve_(std::move(serve)),
      refuse_(std::move(refuse)),
      throttle_(state.clock, kLogInterval) {}

asio::awaitable<void> Acceptor::run() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        if (replacement_) {
            (void)accept_turn(kDrainMax);
            socket_.replace(std::move(*replacement_));
            replacement_.reset();
        }
        if (co_await socket_.readable() == WaitEnd::aborted) continue;
        if (accept_turn(kAcceptsPerTurn) == Turn::exhausted) {
            co_await state_.clock.sleep_for(kExhaustedPause);
        }
    }
    // Who waits at the parent's socket waits for the next process.
    if (!is_terminal(stop) && !state_.inherited) (void)accept_turn(kDrainMax);
    socket_.close();
}

void Acceptor::replace(UniqueFd socket) {
    replacement_ = std::move(socket);
    socket_.cancel();
}

Acceptor::Turn Acceptor::accept_turn(std::size_t accepts_max) {
    for (std::size_t i = 0; i < accepts_max;) {
        UniqueFd connection(
            ::accept4(socket_.native(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (connection) {
            admit(std::move(connection));
            ++i;
            continue;
        }
        const int error_number = errno;
        if (error_number == EAGAIN || error_number == EWOULDBLOCK) return Turn::drained;
        if (error_number == EINTR || error_number == ECONNABORTED) {
            ++i;
            continue;  // that peer is gone, the next one is not
        }
        if (const auto hidden = throttle_.allow("accept")) {
            log::warn("listen", "cannot accept connections, trying again",
                      {{"listener", state_.address},
                       {"error", std::generic_category().message(error_number)},
                       {"connections", state_.connections.taken()},
                       {"retry_in_ms", kExhaustedPause.count()},
                       {"suppressed", *hidden}});
        }
        return Turn::exhausted;
    }
    return Turn::more;
}

void Acceptor::admit(UniqueFd connection) {
    if (!state_.access.allows_connection(connection.get())) {
        state_.counts.peers_refused_metric.add();
        if (const auto hidden = throttle_.allow("peer")) {
            log::warn("listen", "peer is in neither allow_uids nor allow_gids, closing",
                      {{"listener", state_.address}, {"suppressed", *hidden}});
        }
        return refuse(std::move(connection), Refusal::not_allowed);
    }
    if (!state_.connections.take(own_)) {
        state_.counts.refused_metric.add();
        if (const auto hidden = throttle_.allow("limit")) {
            log::warn("listen", "connection limit reached, closing new connections",
                      {{"listener", state_.address},
                       {"limit", state_.connections.limit()},
                       {"suppressed", *hidden}});
        }
        return refuse(std::move(connection), Refusal::over_limit);
    }
    ++own_;
    sessions_.spawn("connection of " + state_.address, serve(std::move(connection)));
}

void Acceptor::refuse(UniqueFd connection, Refusal why) {
    if (!refuse_) return;
    refuse_(connection.get(), why);
    if (lingering_ == kLingeringMax) return;
    ++lingering_;
    sessions_.spawn("refusal of " + state_.address, linger_refused(std::move(connection)));
}

asio::awaitable<void> Acceptor::linger_refused(UniqueFd connection) {
    const Counted counted(lingering_);
    std::array<char, 1024> unread{};
    ReadyFd socket(sessions_.executor(), std::move(connection));
    co_await linger(socket, state_, unread, kRefusedBytesMax);
}

asio::awaitable<void> Acceptor::serve(UniqueFd connection) {
    const Place place(state_.connections, own_);
    auto session = serve_(std::move(connection));
    co_await std::move(session);
}

}  // namespace opsrelay::listen
