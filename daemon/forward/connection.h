// One keep-alive connection to the upstream, plain or TLS, direct or through a proxy's tunnel.
//
// Several requests may be under way on it (RFC 9112 9.3.2): their replies come in the order of the
// requests. Of the calls that wait, the first one reads, for itself and for those behind it: what
// came in one read is handed out at once. With one request at a time nobody else is woken.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "forward/endpoint_url.h"
#include "forward/pipeline_depth.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// A request that the end of its connection left without a reply, though it was not to blame.
enum class Lost : std::uint8_t {
    no,     // it has its reply, or failed
    next,   // a connection that had answered others closed before a byte of its reply
    behind  // another request was before it, and failed or was lost as well
};

/// How one request on a connection went.
struct Exchange {
    Reply reply;
    Lost lost = Lost::no;
    bool any_reply = false;  // at least one byte of a reply came
};

/// When a request leaves.
enum class Sending : std::uint8_t {
    at_once,
    together  // with those of the calls that are about to run, in one write
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

/// Thread: forward. Destruction closes the socket; no call may be pending then.
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
    /// Sends `request` (head and body) and gives the reply: 1xx replies are skipped, a body over
    /// kReplyBodyMax is cut and the connection given up. `request` lives until this returns, and
    /// the connection must not have ended. A call behind others ends at its own deadline and leaves
    /// them alone; the deadline of the one that reads closes the socket.
    [[nodiscard]] asio::awaitable<Exchange> exchange(std::string_view request, TimePoint deadline,
                                                     Sending sending = Sending::at_once);

    /// Requests whose reply is still to come.
    [[nodiscard]] std::size_t under_way() const noexcept;
    /// Replies that came.
    [[nodiscard]] std::size_t answered() const noexcept;
    /// It takes no more requests, and how it came to that; nullopt: it goes on.
    [[nodiscard]] const std::optional<ConnectionEnd>& ended() const noexcept;
    /// Replies have their Date from now on.
    void keep_date();
    /// Of an open connection; nullopt: it is plain.
    [[nodiscard]] std::optional<PeerCertificate> certificate() const;

    TimePoint opened_at{};  // kept by the pool
    TimePoint used_at{};
    std::uint64_t generation = 0;
    bool alone = false;  // a request is under way that wants no other beside it
    std::optional<asio::ip::address> address;  // of the peer or its proxy; nullopt: a Unix socket

private:
    struct Impl;                  // Beast stays out of headers
    std::shared_ptr<Impl> impl_;  // shared with the handlers of writes, which run after a close
};

}  // namespace opsrelay::forward
