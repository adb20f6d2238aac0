// A tiny HTTP server on 127.0.0.1 that answers with scripted bytes, plain or TLS.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/task_group.h"

namespace opsrelay::test {

/// What a request gets: these bytes, then, with `close`, the end of the connection.
struct Served {
    std::string bytes;
    bool close = false;
    bool hang = false;      // no reply yet, or at all; the next request is read
    std::size_t piece = 0;  // bytes of a write, each sent by itself; 0: one write
    bool reset = false;     // with `close`: by RST
    milliseconds pause{0};  // before all that
};

/// "HTTP/1.1 200 OK" with Content-Length and this body.
[[nodiscard]] Served ok(std::string body);

struct Certificate {
    std::string certificate_pem;
    std::string key_pem;
};
/// Self-signed for one DNS name, valid from now + `from` to now + `to`.
[[nodiscard]] Certificate make_certificate(const std::string& host, seconds from, seconds to);

/// Runs on the test's io_context. stop() before it is destroyed.
class LoopbackServer {
public:
    using Handler = std::function<Served(std::size_t index, const std::string& request)>;

    LoopbackServer(asio::io_context& io, Clock& clock, Handler handler);
    /// With TLS; only clients with this certificate are served, unless it is empty.
    LoopbackServer(asio::io_context& io, Clock& clock, Handler handler, const Certificate& identity,
                   const std::string& client_pem = {});
    ~LoopbackServer();

    [[nodiscard]] std::uint16_t port() const;
    [[nodiscard]] const std::vector<std::string>& requests() const noexcept { return requests_; }
    [[nodiscard]] std::size_t connections() const noexcept { return connections_; }
    /// Closes every connection that waits for a request, as a server does with idle ones.
    void close_connections();
    [[nodiscard]] asio::awaitable<void> stop();

private:
    asio::awaitable<void> accept_loop();
    template <typename Stream>
    asio::awaitable<void> serve(Stream& stream);
    asio::awaitable<void> serve_plain(asio::ip::tcp::socket socket);
    asio::awaitable<void> serve_tls(asio::ip::tcp::socket socket);

    Handler handler_;
    asio::ip::tcp::acceptor acceptor_;
    std::unique_ptr<asio::ssl::context> tls_;
    TaskGroup accepting_;
    TaskGroup serving_;
    std::vector<std::string> requests_;
    std::size_t connections_ = 0;
};

}  // namespace opsrelay::test
