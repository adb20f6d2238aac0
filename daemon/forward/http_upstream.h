// The Opsmeter API over HTTP/1.1: a keep-alive pool, TLS with verification, one deadline per
// request.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "forward/connection.h"
#include "forward/endpoint_url.h"
#include "forward/options.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// A connection is closed after this long, so that names are resolved again and load moves.
inline constexpr minutes kConnectionAgeMax{5};
/// An idle connection is not used again after this long: something between may have forgotten it.
inline constexpr seconds kConnectionIdleMax{60};

/// Thread: forward. No request may be under way when it is destroyed.
///
/// A name server that does not answer is waited for at most until a request's deadline, but the
/// system's resolver cannot be cancelled: its thread may still run then, and destroying the
/// io_context waits for it. A process that must end now asks resolving() and ends with _exit.
class HttpUpstream final : public Upstream {
public:
    /// Checks the URL and loads the trust anchors. Errors: config_invalid, naming key and value.
    [[nodiscard]] static Result<std::unique_ptr<HttpUpstream>> make(asio::any_io_executor forward,
                                                                    Clock& clock,
                                                                    const Options& options);

    [[nodiscard]] asio::awaitable<Reply> send(std::string_view body, TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<Reply> workspace_status(TimePoint deadline) override;
    void set_api_key(std::string key) override;
    void tend_connections(bool rebuild) override;

    /// A name resolution has not come back from the system's resolver, its request's deadline past
    /// or not: destroying the io_context would wait for it.
    [[nodiscard]] bool resolving() const noexcept { return *resolutions_ > 0; }
    [[nodiscard]] const Endpoint& endpoint() const noexcept { return endpoint_; }
    [[nodiscard]] std::size_t idle_connections() const noexcept { return idle_.size(); }

private:
    HttpUpstream(asio::any_io_executor forward, Clock& clock, const Options& options,
                 Endpoint endpoint);
    [[nodiscard]] Result<void> load_trust();

    struct Opened {
        std::unique_ptr<Connection> connection;  // null: `failure` says why
        Reply failure;
    };
    struct Resolved {
        std::vector<asio::ip::tcp::endpoint> addresses;  // empty: `failure` says why
        Reply failure;
    };
    asio::awaitable<Reply> request(std::string text, TimePoint deadline);
    asio::awaitable<Opened> open(TimePoint deadline);
    asio::awaitable<Resolved> resolve(TimePoint deadline);
    [[nodiscard]] std::unique_ptr<Connection> take_idle();
    void give_back(std::unique_ptr<Connection> connection);
    [[nodiscard]] bool expired(const Connection& connection) const;

    asio::any_io_executor executor_;
    Clock& clock_;
    const Options options_;
    const Endpoint endpoint_;
    std::optional<asio::ssl::context> tls_;  // unset for plain http
    std::string post_head_;                  // up to the value of Content-Length
    std::string status_request_;
    bool has_key_ = false;
    std::uint64_t generation_ = 0;
    /// Resolutions under way. Shared with their handlers, which may come after this is gone.
    std::shared_ptr<std::size_t> resolutions_ = std::make_shared<std::size_t>(0);
    std::vector<std::unique_ptr<Connection>> idle_;  // least recently used first
};

}  // namespace opsrelay::forward
