// The read-only HTTP server for probes, scrapes and `opsrelay status`: a loopback port and the Unix
// socket admin.sock.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/error.h"
#include "core/unique_fd.h"

namespace opsrelay::control {

struct AdminResponse {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
};
/// Answers a GET of `path` (without the query). Status 404 for what it does not know.
using AdminHandler = std::function<asio::awaitable<AdminResponse>(std::string path)>;

/// HTTP/1.1, GET and HEAD only, at most 64 connections a socket, 10 s a request. On loopback a
/// foreign Host or Origin is refused (core/browser_rules.h). Thread: the executor's.
class AdminServer {
public:
    AdminServer(asio::any_io_executor executor, Clock& clock, AdminHandler handler);
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;
    ~AdminServer();

    /// Binds a loopback address; port 0 picks a free one. Errors: config_invalid (not loopback),
    /// address_in_use, listener_failed.
    [[nodiscard]] Result<void> listen_tcp(const std::string& address, std::uint16_t port);
    /// Takes a bound and listening Unix socket.
    [[nodiscard]] Result<void> adopt_unix(UniqueFd socket);
    /// The TCP port bound, 0 when none.
    [[nodiscard]] std::uint16_t port() const noexcept;

    void start();
    [[nodiscard]] asio::awaitable<void> stop();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace opsrelay::control
