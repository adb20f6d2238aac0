// Closes a socket when a deadline passes.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>
#include <memory>

#include "core/clock.h"

namespace opsrelay::forward {

using Socket = asio::generic::stream_protocol::socket;  // TCP or Unix

/// A request sets a deadline and takes it back; the timer is armed anew only when it fires before
/// the deadline that counts then, so that a stream of requests costs one wait in a while and not
/// one each. Shared with that wait's handler, which may run after the connection is gone. Thread:
/// one.
class Watch : public std::enable_shared_from_this<Watch> {
public:
    explicit Watch(const asio::any_io_executor& executor) : timer_(executor) {}

    void set(Socket& socket, TimePoint due);
    /// The socket is not touched any more.
    void clear() noexcept { socket_ = nullptr; }
    void stop();
    /// A deadline passed, and the socket is closed.
    [[nodiscard]] bool expired() const noexcept { return expired_; }

private:
    void arm();
    void fired(TimePoint at);

    asio::steady_timer timer_;
    Socket* socket_ = nullptr;
    TimePoint due_ = TimePoint::max();
    TimePoint armed_for_ = TimePoint::max();  // no wait is pending
    bool expired_ = false;
};

}  // namespace opsrelay::forward
