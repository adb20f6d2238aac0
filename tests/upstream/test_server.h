// A running emulator inside a test, and a client that sees every byte.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <string_view>
#include <thread>

#include "core/clock.h"
#include "upstream/server.h"

namespace opsrelay::upstream {

/// Runs on its own thread from construction to destruction.
class TestServer {
public:
    explicit TestServer(Settings settings = {});
    TestServer(const TestServer&) = delete;
    TestServer& operator=(const TestServer&) = delete;
    ~TestServer();

    [[nodiscard]] std::uint16_t port() const noexcept { return server_.port(); }
    [[nodiscard]] std::uint16_t control_port() const noexcept { return server_.control_port(); }

private:
    asio::io_context io_{1};
    SystemClock clock_;
    Server server_;
    std::thread thread_;
};

/// What came back on one connection until the server closed it, or until the reply was complete.
struct Exchange {
    bool connected = false;
    bool reset = false;        // ended by RST
    bool closed = false;       // ended by FIN
    std::string head;          // status line and headers, each line with its CRLF
    std::string body;          // what arrived of it
    std::size_t promised = 0;  // Content-Length

    [[nodiscard]] int status() const;
    [[nodiscard]] std::string header(std::string_view name) const;
};

class TestClient {
public:
    explicit TestClient(std::uint16_t port);
    [[nodiscard]] bool connected() const { return socket_.is_open(); }
    void send(std::string_view bytes);
    /// Sends `bytes` as they are and reads one reply, or until the connection ends.
    Exchange exchange(std::string_view bytes);
    /// Reads until the connection ends.
    Exchange read_all();
    /// Reads status line and headers, and none of the body that may follow.
    std::string read_head();
    /// Bytes that have arrived and were not read.
    [[nodiscard]] std::size_t waiting();

private:
    Exchange read(bool whole_connection);

    asio::io_context io_;
    asio::ip::tcp::socket socket_{io_};
    std::string buffer_;
};

[[nodiscard]] std::string request_text(std::string_view method, std::string_view target,
                                       std::string_view body = {},
                                       std::string_view headers = "X-API-Key: test\r\n");
/// A valid ingest body.
[[nodiscard]] std::string event(std::string_view id, int input_tokens = 10);
/// One request on a connection of its own.
Exchange call(std::uint16_t port, std::string_view method, std::string_view target,
              std::string_view body = {});
Exchange ingest(std::uint16_t port, std::string_view id);

}  // namespace opsrelay::upstream
