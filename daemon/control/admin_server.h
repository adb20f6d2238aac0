// The HTTP server for probes, scrapes and commands: a loopback port, which is read-only, the Unix
// socket admin.sock, over which an operator also changes things, and a port for /metrics alone.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "control/tail.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/unique_fd.h"

namespace opsrelay::control {

struct AdminRequest {
    bool post = false;  // else GET or HEAD; only admin.sock takes a POST
    std::string path;   // without the query
    std::string body;   // of a POST, at most kAdminBodyMax
};
struct AdminResponse {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
};
/// Answers a request. Status 404 for a path it does not know.
using AdminHandler = std::function<asio::awaitable<AdminResponse>(AdminRequest request)>;

/// What the metrics-only port serves.
inline constexpr std::string_view kMetricsPath = "/metrics";
inline constexpr std::size_t kAdminBodyMax = std::size_t{1} << 20U;

/// Whether a process of user `peer` may talk to a daemon of user `own` over admin.sock. The
/// socket's mode says the same; this also holds when somebody changes it.
[[nodiscard]] constexpr bool may_administer(std::uint32_t peer, std::uint32_t own) noexcept {
    return peer == 0 || peer == own;
}

/// HTTP/1.1, at most 64 connections a socket, 10 s a request. On loopback only GET and HEAD, and a
/// foreign Host or Origin is refused (core/browser_rules.h). The Unix socket also takes POST, from
/// root and the daemon's own user alone (SO_PEERCRED). The metrics port takes any Host, since
/// scrapers call by names that are not ours, and knows no path but kMetricsPath. Thread: the
/// executor's.
class AdminServer {
public:
    AdminServer(asio::any_io_executor executor, Clock& clock, AdminHandler handler);
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;
    ~AdminServer();

    /// Binds a loopback address; port 0 picks a free one. Errors: config_invalid (not loopback),
    /// address_in_use, listener_failed.
    [[nodiscard]] Result<void> listen_tcp(const std::string& address, std::uint16_t port);
    /// These take a bound and listening socket instead; adopt_tcp() one of a loopback address.
    [[nodiscard]] Result<void> adopt_tcp(UniqueFd socket);
    [[nodiscard]] Result<void> adopt_metrics(UniqueFd socket);
    /// Takes a bound and listening Unix socket.
    [[nodiscard]] Result<void> adopt_unix(UniqueFd socket);
    /// The socket's path was made anew: goes on with this one; connections live on. Error:
    /// listener_failed. After start().
    [[nodiscard]] Result<void> replace_unix(UniqueFd socket);
    /// Binds any address for scrapes. Errors: as listen_tcp().
    [[nodiscard]] Result<void> listen_metrics(const std::string& address, std::uint16_t port);
    /// The TCP ports bound, 0 when none.
    [[nodiscard]] std::uint16_t port() const noexcept;
    [[nodiscard]] std::uint16_t metrics_port() const noexcept;

    /// Who asks for /tail over the Unix socket gets its lines until either side ends; `tail`
    /// outlives the server. Before start().
    void serve_tail(Tail& tail) noexcept;
    void start();
    [[nodiscard]] asio::awaitable<void> stop();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace opsrelay::control
