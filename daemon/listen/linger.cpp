#include "listen/linger.h"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "core/nothrow.h"

namespace opsrelay::listen {

namespace {

constexpr milliseconds kLinger{1'000};
constexpr std::size_t kReadsPerTurn = 16;  // then the other connections get a turn

}  // namespace

asio::awaitable<void> linger(ReadyFd& socket, const ListenerState& state, std::span<char> scratch,
                             std::uint64_t bytes_max) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto executor = co_await asio::this_coro::executor;
    (void)::shutdown(socket.native(), SHUT_WR);
    const auto due = state.clock.now() + kLinger;
    std::uint64_t discarded = 0;
    std::size_t reads = 0;
    while (stop.cancelled() == asio::cancellation_type::none && !state.stopping &&
           discarded < bytes_max) {
        const auto got = socket.receive(scratch);
        if (got.state == Transfer::State::ended) co_return;
        if (got.state == Transfer::State::done) {
            discarded += got.bytes;
            if (++reads % kReadsPerTurn == 0) co_await asio::post(executor, nothrow);
        } else {
            const auto waited = co_await socket.readable_until(state.clock, due);
            if (waited == WaitEnd::timed_out) co_return;
        }
    }
}

}  // namespace opsrelay::listen
