// A non-blocking descriptor whose readiness coroutines can wait for; the system calls stay with the
// caller, which reads and writes as much as is there before it waits again.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/clock.h"
#include "core/unique_fd.h"

namespace opsrelay::listen {

/// How a wait ended.
enum class WaitEnd : std::uint8_t {
    ready,
    timed_out,
    aborted  // the coroutine was cancelled, or cancel() was called
};

/// What one non-blocking transfer did.
struct Transfer {
    enum class State : std::uint8_t { done, would_block, ended };
    State state = State::done;
    std::size_t bytes = 0;  // when done, at least 1
};

/// Owns a descriptor. One reader and one writer may wait at the same time. Thread: the executor's.
class ReadyFd {
public:
    /// `fd` must be non-blocking. Throws boost::system::system_error when the reactor refuses it.
    ReadyFd(const asio::any_io_executor& executor, UniqueFd fd);
    ReadyFd(const ReadyFd&) = delete;
    ReadyFd& operator=(const ReadyFd&) = delete;

    [[nodiscard]] asio::awaitable<WaitEnd> readable();
    [[nodiscard]] asio::awaitable<WaitEnd> readable_until(Clock& clock, TimePoint due);
    [[nodiscard]] asio::awaitable<WaitEnd> writable_until(Clock& clock, TimePoint due);

    /// recv(2); `ended` is an orderly end, a reset or any other error.
    [[nodiscard]] Transfer receive(std::span<char> into) noexcept;
    /// send(2) without SIGPIPE; `ended`: the peer is gone.
    [[nodiscard]] Transfer send(std::string_view bytes) noexcept;
    /// Writes all of `bytes`, waiting where the peer is slow. False: gone or not done by `due`.
    [[nodiscard]] asio::awaitable<bool> send_all(std::string_view bytes, Clock& clock,
                                                 TimePoint due);

    /// Ends the waits of others with `aborted`.
    void cancel();
    /// Closes the descriptor and takes another one; waits end with `aborted`.
    void replace(UniqueFd fd);
    void close();
    [[nodiscard]] int native() { return descriptor_.native_handle(); }

private:
    using Wait = asio::posix::stream_descriptor::wait_type;
    [[nodiscard]] asio::awaitable<WaitEnd> wait_until(Wait what, Clock& clock, TimePoint due);

    asio::posix::stream_descriptor descriptor_;
};

[[nodiscard]] inline bool is_terminal(const asio::cancellation_state& state) noexcept {
    return (state.cancelled() & asio::cancellation_type::terminal) != asio::cancellation_type::none;
}

}  // namespace opsrelay::listen
