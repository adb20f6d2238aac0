// One keep-alive connection to the upstream, plain or TLS.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>
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

/// Thread: forward. Destruction closes the socket; nothing may be pending then.
class Connection {
public:
    /// `tls` is null for plain http; both outlive the connection.
    Connection(asio::any_io_executor executor, const Endpoint& endpoint, asio::ssl::context* tls);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    /// Connects to one address and, with TLS, shakes hands: the certificate must be valid for the
    /// endpoint's host. A Reply whose transport is ok means success.
    [[nodiscard]] asio::awaitable<Reply> open(asio::ip::tcp::endpoint address, TimePoint connect_by,
                                              TimePoint deadline);
    /// Sends `request` (head and body) and reads the reply: 1xx replies are skipped, a body over
    /// kReplyBodyMax is cut and the connection given up. `request` lives until this returns.
    [[nodiscard]] asio::awaitable<Exchange> exchange(std::string_view request, TimePoint deadline);

    TimePoint opened_at{};  // kept by the pool
    TimePoint used_at{};
    std::uint64_t generation = 0;

private:
    struct Impl;  // Beast stays out of headers
    std::unique_ptr<Impl> impl_;
};

}  // namespace opsrelay::forward
