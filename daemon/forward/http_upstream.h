// The Opsmeter API over HTTP/1.1: a keep-alive pool, TLS with verification, one deadline per
// request.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/secret.h"
#include "forward/connection.h"
#include "forward/connector.h"
#include "forward/endpoint_url.h"
#include "forward/options.h"
#include "forward/resolver.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// A connection is closed after this long, so that names are resolved again and load moves.
inline constexpr minutes kConnectionAgeMax{5};
/// An idle connection is not used again after this long: something between may have forgotten it.
inline constexpr seconds kConnectionIdleMax{60};

/// Thread: forward. No request may be under way when it is destroyed.
class HttpUpstream final : public Upstream {
public:
    /// Checks the URL and reads certificates; `resolver` outlives it. Errors: config_invalid,
    /// naming key and value.
    [[nodiscard]] static Result<std::unique_ptr<HttpUpstream>> make(asio::any_io_executor forward,
                                                                    Clock& clock,
                                                                    Resolver& resolver,
                                                                    const Options& options);

    [[nodiscard]] asio::awaitable<Reply> send(std::string_view body, TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<Reply> send_batch(std::span<const std::string_view> events,
                                                    TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<Reply> workspace_status(TimePoint deadline) override;
    void set_api_key(const Secret& key) override;
    /// Also reads certificates again whose files changed, as every new connection does.
    void tend_connections(bool rebuild) override;

    [[nodiscard]] const Endpoint& endpoint() const noexcept { return connector_->endpoint(); }
    [[nodiscard]] std::size_t idle_connections() const noexcept { return idle_.size(); }

private:
    HttpUpstream(Clock& clock, const Options& options, std::unique_ptr<Connector> connector);

    [[nodiscard]] asio::awaitable<Reply> post(std::string_view body, TimePoint deadline);
    asio::awaitable<Reply> request(Secret text, TimePoint deadline);
    asio::awaitable<Reply> exchange(std::string_view text, TimePoint deadline);
    [[nodiscard]] std::unique_ptr<Connection> take_idle();
    void give_back(std::unique_ptr<Connection> connection);
    [[nodiscard]] bool expired(const Connection& connection) const;

    Clock& clock_;
    const Options options_;
    std::unique_ptr<Connector> connector_;
    Secret post_head_;  // up to the value of Content-Length
    Secret status_request_;
    Secret key_;
    std::uint64_t generation_ = 0;
    std::vector<std::unique_ptr<Connection>> idle_;  // least recently used first
};

}  // namespace opsrelay::forward
