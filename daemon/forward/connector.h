// Makes connections to one upstream: resolves, tries one address after the other, goes through the
// proxy, shakes hands.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "forward/address_order.h"
#include "forward/connection.h"
#include "forward/endpoint_url.h"
#include "forward/options.h"
#include "forward/resolver.h"
#include "forward/tls_context.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// Thread: forward. `resolver` outlives it. No open() may be pending when it is destroyed.
class Connector {
public:
    /// Checks the URL and reads certificates. Errors: config_invalid, naming key and value.
    [[nodiscard]] static Result<std::unique_ptr<Connector>> make(asio::any_io_executor forward,
                                                                 Clock& clock, Resolver& resolver,
                                                                 const Options& options);

    struct Opened {
        std::unique_ptr<Connection> connection;  // null: `failure` says why
        Reply failure;
    };
    /// Names are resolved anew each time. Every address gets a share of the time until `deadline`.
    [[nodiscard]] asio::awaitable<Opened> open(TimePoint deadline);
    /// A connection on which nothing comes back any more: its address is tried after the others.
    void note_silent(const Connection& connection);
    /// Reads certificates again whose files changed; true: connections should be made anew.
    [[nodiscard]] bool refresh() { return tls_ && tls_->refresh(); }

    [[nodiscard]] const Endpoint& endpoint() const noexcept { return endpoint_; }

private:
    Connector(asio::any_io_executor forward, Clock& clock, Resolver& resolver,
              const Options& options, Endpoint endpoint);
    /// Where a socket may be connected to, in order.
    struct Way {
        asio::generic::stream_protocol::endpoint endpoint;
        std::string name;
        std::optional<asio::ip::address> address;
    };
    asio::awaitable<Result<std::vector<Way>>> ways(TimePoint deadline);

    asio::any_io_executor executor_;
    Clock& clock_;
    Resolver& resolver_;
    const Endpoint endpoint_;
    const std::optional<Proxy> proxy_;
    const milliseconds silence_max_;
    Secret tunnel_;                    // the CONNECT request; empty: no proxy
    std::unique_ptr<TlsContext> tls_;  // null for plain http
    AddressOrder order_;
};

}  // namespace opsrelay::forward
