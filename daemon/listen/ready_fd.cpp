#include "listen/ready_fd.h"

#include <sys/socket.h>

#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/parallel_group.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>

#include "core/nothrow.h"

namespace opsrelay::listen {

namespace {

Transfer transferred(ssize_t result) noexcept {
    if (result > 0) return {Transfer::State::done, static_cast<std::size_t>(result)};
    if (result < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return {Transfer::State::would_block, 0};
    }
    return {Transfer::State::ended, 0};
}

}  // namespace

ReadyFd::ReadyFd(const asio::any_io_executor& executor, UniqueFd fd) : descriptor_(executor) {
    descriptor_.assign(fd.get());
    (void)fd.release();  // the descriptor owns it once assign() has not thrown
}

asio::awaitable<WaitEnd> ReadyFd::readable() {
    const auto [ec] = co_await descriptor_.async_wait(Wait::wait_read, nothrow);
    co_return ec ? WaitEnd::aborted : WaitEnd::ready;
}

asio::awaitable<WaitEnd> ReadyFd::readable_until(Clock& clock, TimePoint due) {
    return wait_until(Wait::wait_read, clock, due);
}

asio::awaitable<WaitEnd> ReadyFd::writable_until(Clock& clock, TimePoint due) {
    return wait_until(Wait::wait_write, clock, due);
}

asio::awaitable<WaitEnd> ReadyFd::wait_until(Wait what, Clock& clock, TimePoint due) {
    if (clock.now() >= due) co_return WaitEnd::timed_out;
    asio::steady_timer timer(descriptor_.get_executor(), TimePoint::max());
    clock.arm(timer, due);
    auto race = asio::experimental::make_parallel_group(
        descriptor_.async_wait(what, asio::deferred), timer.async_wait(asio::deferred));
    const auto [order, fd_ec, timer_ec] =
        co_await race.async_wait(asio::experimental::wait_for_one(), nothrow);
    clock.disarm(timer);
    if (order[0] == 0) co_return fd_ec ? WaitEnd::aborted : WaitEnd::ready;
    co_return clock.now() >= due ? WaitEnd::timed_out : WaitEnd::aborted;
}

Transfer ReadyFd::receive(std::span<char> into) noexcept {
    ssize_t result = 0;
    do {
        result = ::recv(descriptor_.native_handle(), into.data(), into.size(), MSG_DONTWAIT);
    } while (result < 0 && errno == EINTR);
    return transferred(result);
}

Transfer ReadyFd::send(std::string_view bytes) noexcept {
    ssize_t result = 0;
    do {
        result = ::send(descriptor_.native_handle(), bytes.data(), bytes.size(),
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (result < 0 && errno == EINTR);
    return transferred(result);
}

asio::awaitable<bool> ReadyFd::send_all(std::string_view bytes, Clock& clock, TimePoint due) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (!bytes.empty()) {
        const auto sent = send(bytes);
        if (sent.state == Transfer::State::ended) co_return false;
        if (sent.state == Transfer::State::done) {
            bytes.remove_prefix(sent.bytes);
            continue;
        }
        if (is_terminal(stop)) co_return false;
        const auto waited = co_await writable_until(clock, due);
        if (waited == WaitEnd::timed_out) co_return false;
    }
    co_return true;
}

void ReadyFd::cancel() {
    boost::system::error_code ignored;  // nothing was waiting
    descriptor_.cancel(ignored);
}

void ReadyFd::replace(UniqueFd fd) {
    close();
    descriptor_.assign(fd.get());
    (void)fd.release();
}

void ReadyFd::close() {
    boost::system::error_code ignored;  // the descriptor is gone either way
    descriptor_.close(ignored);
}

}  // namespace opsrelay::listen
