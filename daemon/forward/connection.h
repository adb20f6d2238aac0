// One keep-alive connection to the upstream, plain or TLS, direct or through a proxy's tunnel.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "forward/endpoint_url.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// How one request on a connection went.
struct Exchange {
    Reply reply;
    bool reusable = false;   // the connection may serve another request
    bool any_reply = false;  // at least one byte of a reply came
};

/// The way to the upstream.
struct Route {
    asio::generic::stream_protocol::endpoint address;  // where the socket is connected to
    std::string name;                                  // the same for errors
    /// A CONNECT request that is sent first; empty: none. May hold credentials, is never shown.
    Secret tunnel;
    /// Null: plain HTTP. Shared: it may be replaced while a handshake is under way.
    std::shared_ptr<asio::ssl::context> tls;
    milliseconds silence_max{10'000};  // sent bytes that are not acknowledged end a TCP connection
};

/// What the other side of a TLS connection showed.
struct PeerCertificate {
    std::string subject;  // one line
    std::string issuer;
    WallTime not_after{};
};

/// Thread: forward. Destruction closes the socket; nothing may be pending then.
class Connection {
public:
    /// `endpoint` outlives the connection.
    Connection(asio::any_io_executor executor, const Endpoint& endpoint, Route route);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    /// Connects, asks a proxy for the tunnel and, with TLS, shakes hands: the certificate must be
    /// valid for the endpoint's host. A Reply whose transport is ok means success.
    [[nodiscard]] asio::awaitable<Reply> open(TimePoint connect_by, TimePoint deadline);
    /// Sends `request` (head and body) and reads the reply: 1xx replies are skipped, a body over
    /// kReplyBodyMax is cut and the connection given up. `request` lives until this returns.
    [[nodiscard]] asio::awaitable<Exchange> exchange(std::string_view request, TimePoint deadline);

    /// Replies have their Date from now on.
    void keep_date();
    /// Of an open connection; nullopt: it is plain.
    [[nodiscard]] std::optional<PeerCertificate> certificate() const;

    TimePoint opened_at{};  // kept by the pool
    TimePoint used_at{};
    std::uint64_t generation = 0;
    std::optional<asio::ip::address> address;  // of the peer or its proxy; nullopt: a Unix socket

private:
    struct Impl;  // Beast stays out of headers
    std::unique_ptr<Impl> impl_;
};

}  // namespace opsrelay::forward
