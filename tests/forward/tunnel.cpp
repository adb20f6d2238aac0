#include "forward/tunnel.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cstring>
#include <utility>

#include "core/nothrow.h"

namespace opsrelay::test {

namespace {

asio::ip::tcp::endpoint loopback(std::uint16_t port) {
    return {asio::ip::address_v4::loopback(), port};
}

}  // namespace

Tunnel::Tunnel(asio::io_context& io, Clock& clock, std::uint16_t port, Answer answer)
    : to_(port),
      answer_(std::move(answer)),
      acceptor_(io, Protocol::endpoint(loopback(0))),
      accepting_(io.get_executor(), clock),
      serving_(io.get_executor(), clock) {
    accepting_.spawn("accept", accept_loop());
}

Tunnel::Tunnel(asio::io_context& io, Clock& clock, std::uint16_t port, const std::string& path)
    : to_(port),
      acceptor_(io, Protocol::endpoint(asio::local::stream_protocol::endpoint(path))),
      accepting_(io.get_executor(), clock),
      serving_(io.get_executor(), clock) {
    accepting_.spawn("accept", accept_loop());
}

std::uint16_t Tunnel::port() const {
    sockaddr_in address{};
    const auto local = acceptor_.local_endpoint();
    std::memcpy(&address, local.data(), std::min(sizeof address, local.size()));
    return ntohs(address.sin_port);
}

asio::awaitable<void> Tunnel::stop() {
    accepting_.cancel(asio::cancellation_type::terminal);
    co_await accepting_.join();
    serving_.cancel(asio::cancellation_type::terminal);
    co_await serving_.join();
}

asio::awaitable<void> Tunnel::accept_loop() {
    while (true) {
        auto [ec, socket] = co_await acceptor_.async_accept(nothrow);
        if (ec) co_return;
        ++connections_;
        serving_.spawn("serve", serve(std::move(socket)));
    }
}

asio::awaitable<void> Tunnel::serve(Socket socket) {
    const auto client = std::make_shared<Socket>(std::move(socket));
    if (answer_) {
        std::string head;
        const auto [ec, size] = co_await asio::async_read_until(*client, asio::dynamic_buffer(head),
                                                                "\r\n\r\n", nothrow);
        if (ec) co_return;
        heads_.push_back(head);
        const auto answer = answer_(head);
        const auto [write_ec, sent] =
            co_await asio::async_write(*client, asio::buffer(answer), nothrow);
        if (write_ec) co_return;
        if (!answer.starts_with("HTTP/1.1 2")) {
            std::array<char, 64> rest{};
            co_await client->async_read_some(asio::buffer(rest), nothrow);
            co_return;
        }
    }
    const auto server = std::make_shared<Socket>(acceptor_.get_executor());
    const auto [ec] = co_await server->async_connect(Protocol::endpoint(loopback(to_)), nothrow);
    if (ec) co_return;
    serving_.spawn("pipe", pipe(client, server));
    co_await pipe(server, client);
}

asio::awaitable<void> Tunnel::pipe(std::shared_ptr<Socket> from, std::shared_ptr<Socket> to) {
    std::array<char, 4096> buffer{};
    while (true) {
        const auto [ec, size] = co_await from->async_read_some(asio::buffer(buffer), nothrow);
        if (ec) break;
        const auto [write_ec, sent] =
            co_await asio::async_write(*to, asio::buffer(buffer.data(), size), nothrow);
        if (write_ec) break;
    }
    boost::system::error_code ignored;  // it may be closed already
    to->shutdown(asio::socket_base::shutdown_send, ignored);
}

}  // namespace opsrelay::test
