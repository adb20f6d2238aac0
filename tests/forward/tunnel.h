// Passes connections on to a port of this host: as an HTTP proxy that is asked by CONNECT, or from
// a Unix socket.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/task_group.h"

namespace opsrelay::test {

/// Runs on the test's io_context. stop() before it is destroyed.
class Tunnel {
public:
    /// What to say to the head of a CONNECT request. One that does not begin with "HTTP/1.1 2" is
    /// not followed by the tunnel; the connection stays open until the client closes it.
    using Answer = std::function<std::string(const std::string& head)>;

    /// A proxy on 127.0.0.1 whose tunnels all lead to `port`.
    Tunnel(asio::io_context& io, Clock& clock, std::uint16_t port, Answer answer);
    /// A Unix socket.
    Tunnel(asio::io_context& io, Clock& clock, std::uint16_t port, const std::string& path);

    [[nodiscard]] std::uint16_t port() const;
    [[nodiscard]] std::size_t connections() const noexcept { return connections_; }
    /// Heads of the CONNECT requests.
    [[nodiscard]] const std::vector<std::string>& heads() const noexcept { return heads_; }
    [[nodiscard]] asio::awaitable<void> stop();

private:
    using Protocol = asio::generic::stream_protocol;
    using Socket = Protocol::socket;
    asio::awaitable<void> accept_loop();
    asio::awaitable<void> serve(Socket socket);
    static asio::awaitable<void> pipe(std::shared_ptr<Socket> from, std::shared_ptr<Socket> to);

    std::uint16_t to_;
    Answer answer_;
    asio::basic_socket_acceptor<Protocol> acceptor_;
    TaskGroup accepting_;
    TaskGroup serving_;
    std::size_t connections_ = 0;
    std::vector<std::string> heads_;
};

}  // namespace opsrelay::test
