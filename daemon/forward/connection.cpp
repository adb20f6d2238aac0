#include "forward/connection.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/error.hpp>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/nothrow.h"
#include "forward/connection_impl.h"

namespace opsrelay::forward {

namespace {

// Who the certificate must be for (RFC 6125; RFC 5280 4.2.1.6 for addresses). OpenSSL checks it
// with the chain, so that a mismatch has a reason of its own.
bool expect_peer(SSL* session, const Endpoint& endpoint) {
    if (endpoint.numeric) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), endpoint.host.c_str()) == 1;
    }
    SSL_set_hostflags(session, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(session, endpoint.host.c_str()) == 1;
}

namespace ssl = asio::ssl;
using boost::system::error_code;

// An idle connection whose peer has gone without a word is found out within half a minute.
constexpr int kKeepaliveIdle = 15;     // seconds
constexpr int kKeepaliveInterval = 5;  // seconds
constexpr int kKeepaliveProbes = 3;

void set_option(Socket& socket, int level, int option, int value) {
    // Only latency, and how soon a dead peer is noticed, depend on them.
    (void)::setsockopt(socket.native_handle(), level, option, &value, sizeof value);
}

void prepare(Socket& socket, const Route& route) {
    error_code ignored;  // known to work on every socket; Impl::send() is why it is asked for
    socket.non_blocking(true, ignored);
    if (route.address.protocol().family() == AF_UNIX) return;
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdle);
    set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveInterval);
    set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
    set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(route.silence_max.count()));
}

// The kernel gave the client the very port that it calls, and connected it to itself: a
// simultaneous open (RFC 9293 3.5) with oneself. So it is with a port of the ephemeral range of
// this host that nobody listens on; the socket in our hands would even keep the server from its
// port.
bool calls_itself(const Socket& socket) {
    error_code ec;
    const auto here = socket.local_endpoint(ec);
    return !ec && here.protocol().family() != AF_UNIX && here == socket.remote_endpoint(ec) && !ec;
}

std::string one_line(const X509_NAME* name) {
    std::array<char, 256> text{};
    const auto* const made = X509_NAME_oneline(name, text.data(), static_cast<int>(text.size()));
    return made == nullptr ? std::string() : std::string(made);
}

// The status of a CONNECT's reply, whose head is whole; nullopt: that is no HTTP reply.
std::optional<int> tunnel_status(std::string_view head) {
    if (!head.starts_with("HTTP/1.") || head.size() < 12 || head[8] != ' ') return std::nullopt;
    int status = 0;
    for (const char c : head.substr(9, 3)) {
        if (c < '0' || c > '9') return std::nullopt;
        status = status * 10 + (c - '0');
    }
    return status;
}

}  // namespace

Reply failure(Transport transport, std::string error) {
    Reply reply;
    reply.transport = transport;
    reply.error = std::move(error);
    return reply;
}

Reply Connection::Impl::failed(std::string_view doing, const error_code& ec, Transport otherwise) {
    if (watch->expired()) {
        return failure(Transport::timeout, fmt::format("{}: no answer in time", doing));
    }
    if (ec == boost::beast::http::error::end_of_stream) {
        return failure(otherwise, fmt::format("{}: closed by upstream", doing));
    }
    return failure(otherwise, fmt::format("{}: {}", doing, ec.message()));
}

Connection::Connection(asio::any_io_executor executor, const Endpoint& endpoint, Route route)
    : impl_(std::make_shared<Impl>(std::move(executor), endpoint, std::move(route))) {}

Connection::~Connection() { impl_->close(); }

void Connection::Impl::close() {
    watch->stop();
    if (!plain && !secure) return;
    error_code ignored;  // the descriptor is gone either way
    lowest().close(ignored);
}

asio::awaitable<Reply> Connection::open(TimePoint connect_by, TimePoint deadline) {
    auto& plain = impl_->plain.emplace(impl_->executor);
    impl_->watch->set(plain, connect_by);
    const auto [ec] = co_await plain.async_connect(impl_->route.address, nothrow);
    if (ec) {
        co_return impl_->failed(fmt::format("connect to {}", impl_->route.name), ec,
                                Transport::refused);
    }
    if (calls_itself(plain)) {
        co_return failure(
            Transport::refused,
            fmt::format("connect to {}: nobody listens there (the socket was connected "
                        "to itself)",
                        impl_->route.name));
    }
    prepare(plain, impl_->route);
    impl_->watch->set(plain, deadline);
    Reply reply;
    if (!impl_->route.tunnel.empty()) reply = co_await impl_->ask_for_tunnel();
    if (reply.transport == Transport::ok && impl_->route.tls) {
        impl_->secure.emplace(std::move(plain), *impl_->route.tls);
        impl_->watch->set(impl_->lowest(), deadline);
        impl_->plain.reset();
        reply = co_await impl_->shake_hands();
    }
    impl_->watch->clear();
    co_return reply;
}

void Connection::keep_date() { impl_->reply.keep_date(); }

std::optional<PeerCertificate> Connection::certificate() const {
    if (!impl_->secure) return std::nullopt;
    const std::unique_ptr<X509, decltype(&X509_free)> shown(
        SSL_get1_peer_certificate(impl_->secure->native_handle()), X509_free);
    if (!shown) return std::nullopt;
    std::tm end{};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(shown.get()), &end) != 1) return std::nullopt;
    return PeerCertificate{one_line(X509_get_subject_name(shown.get())),
                           one_line(X509_get_issuer_name(shown.get())),
                           std::chrono::system_clock::from_time_t(::timegm(&end))};
}

// RFC 9110 9.3.6. A reply of 2xx ends with its head, and neither TLS nor HTTP lets the other side
// speak first, so what comes after it belongs to nobody.
asio::awaitable<Reply> Connection::Impl::ask_for_tunnel() {
    const auto doing = fmt::format("CONNECT through proxy {}", route.name);
    const auto request = route.tunnel.view();
    const auto [ec, sent] =
        co_await asio::async_write(*plain, asio::buffer(request.data(), request.size()), nothrow);
    if (ec) co_return failed(doing, ec, Transport::refused);
    auto end = std::string_view::npos;
    while (end == std::string_view::npos) {
        if (buffered == buffer.size()) {
            co_return failure(Transport::refused, fmt::format("{}: the reply has no end", doing));
        }
        const auto room = asio::buffer(buffer.data() + buffered, buffer.size() - buffered);
        const auto [read_ec, read] = co_await plain->async_read_some(room, nothrow);
        if (read_ec) co_return failed(doing, read_ec, Transport::refused);
        buffered += read;
        end = std::string_view(buffer.data(), buffered).find("\r\n\r\n");
    }
    const std::string_view head(buffer.data(), buffered);
    const auto status = tunnel_status(head);
    if (!status) co_return failure(Transport::refused, fmt::format("{}: not HTTP", doing));
    if (*status / 100 != 2) {
        co_return failure(
            Transport::refused,
            fmt::format("{}: refused with status {}{}", doing, *status,
                        *status == 407 ? ", which asks for a user and password" : ""));
    }
    if (end + 4 != buffered) {
        co_return failure(Transport::refused, fmt::format("{}: bytes behind the reply", doing));
    }
    buffered = 0;
    co_return Reply{};
}

asio::awaitable<Reply> Connection::Impl::shake_hands() {
    auto* native = secure->native_handle();
    // RFC 6066 section 3: no SNI for addresses.
    if (!endpoint.numeric && SSL_set_tlsext_host_name(native, endpoint.host.c_str()) != 1) {
        co_return failure(Transport::tls, "TLS: the host name cannot be sent as SNI");
    }
    if (!expect_peer(native, endpoint)) {
        co_return failure(Transport::tls, "TLS: the host name cannot be verified");
    }
    const auto [ec] = co_await secure->async_handshake(ssl::stream_base::client, nothrow);
    if (!ec) co_return Reply{};
    const auto doing = fmt::format("TLS handshake with {}", endpoint.host_header);
    const auto verdict = SSL_get_verify_result(native);
    if (verdict != X509_V_OK) {
        co_return failure(Transport::tls, fmt::format("{}: certificate refused: {}", doing,
                                                      X509_verify_cert_error_string(verdict)));
    }
    co_return failed(doing, ec, Transport::tls);
}

}  // namespace opsrelay::forward
