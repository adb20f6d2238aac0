// The Opsmeter API over HTTP/1.1: a keep-alive pool, TLS with verification, one deadline per
// request, and with Options::pipeline several requests under way on a connection.
//
// A request that lost its connection to another one is `unanswered`: the id makes it safe to send
// it again. A new connection carries one request until it has answered it (RFC 9112 9.3.2).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/secret.h"
#include "core/signal.h"
#include "forward/connection.h"
#include "forward/connector.h"
#include "forward/endpoint_url.h"
#include "forward/options.h"
#include "forward/pipeline_depth.h"
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
    [[nodiscard]] Pipelining pipelining() const override;
    [[nodiscard]] std::size_t idle_connections() const noexcept;

private:
    HttpUpstream(const asio::any_io_executor& forward, Clock& clock, const Options& options,
                 std::unique_ptr<Connector> connector);

    /// Whether a request may be on a connection with others.
    enum class Company : std::uint8_t { any, none };

    [[nodiscard]] asio::awaitable<Reply> post(std::string_view body, TimePoint deadline);
    asio::awaitable<Reply> request(Secret text, TimePoint deadline, Company company);
    asio::awaitable<Reply> exchange(std::string_view text, TimePoint deadline, Company company);
    /// A connection with room; null: there is none.
    [[nodiscard]] std::shared_ptr<Connection> pick(Company company);
    /// As many connections as there may be are there or being made, and none has room.
    [[nodiscard]] bool full() const;
    /// Waits for a change of that; why the request ends instead.
    asio::awaitable<std::optional<Reply>> wait_for_room(TimePoint deadline);
    /// A new one, in the pool; null: `failure` says why.
    asio::awaitable<std::shared_ptr<Connection>> open(TimePoint deadline, Reply& failure);
    void give_back(const std::shared_ptr<Connection>& connection);
    [[nodiscard]] bool expired(const Connection& connection, TimePoint now) const;

    Clock& clock_;
    const Options options_;
    std::unique_ptr<Connector> connector_;
    PipelineDepth depth_;
    Secret post_head_;  // up to the value of Content-Length
    Secret status_request_;
    Secret key_;
    std::uint64_t generation_ = 0;
    /// Those that take requests. Shared with the requests under way, whose last one closes a
    /// connection that is no longer here.
    std::vector<std::shared_ptr<Connection>> pool_;
    std::size_t opening_ = 0;
    std::uint64_t failed_openings_ = 0;
    Signal room_;  // there may be some
};

}  // namespace opsrelay::forward
