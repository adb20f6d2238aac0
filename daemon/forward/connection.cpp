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
#include "forward/reply_reader.h"

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
using Socket = asio::generic::stream_protocol::socket;  // TCP or Unix
using Tls = ssl::stream<Socket>;

// One read buffer per connection: the rest of a header line and a piece of body.
constexpr std::size_t kReadBufferMax = 16U << 10U;

// An idle connection whose peer has gone without a word is found out within half a minute.
constexpr int kKeepaliveIdle = 15;     // seconds
constexpr int kKeepaliveInterval = 5;  // seconds
constexpr int kKeepaliveProbes = 3;

Reply failure(Transport transport, std::string error) {
    Reply reply;
    reply.transport = transport;
    reply.error = std::move(error);
    return reply;
}

/// Closes a socket when a deadline passes. A request sets a deadline and takes it back; the timer
/// is armed anew only when it fires before the deadline that counts then, so that a stream of
/// requests costs one wait in a while and not one each. Shared with that wait's handler, which may
/// run after the connection is gone.
class Watch : public std::enable_shared_from_this<Watch> {
public:
    explicit Watch(const asio::any_io_executor& executor) : timer_(executor) {}

    void set(Socket& socket, TimePoint due) {
        socket_ = &socket;
        due_ = due;
        if (due_ < armed_for_) arm();
    }
    /// The socket is not touched any more.
    void clear() noexcept { socket_ = nullptr; }
    void stop() {
        clear();
        timer_.cancel();
    }
    /// A deadline passed, and the socket is closed.
    [[nodiscard]] bool expired() const noexcept { return expired_; }

private:
    void arm() {
        armed_for_ = due_;
        timer_.expires_at(due_);
        timer_.async_wait([self = shared_from_this(), at = due_](const error_code& ec) {
            if (!ec) self->fired(at);
        });
    }
    void fired(TimePoint at) {
        if (at != armed_for_) return;  // armed anew when this one was already on its way
        armed_for_ = TimePoint::max();
        if (socket_ == nullptr) return;
        if (due_ > at) return arm();
        expired_ = true;
        error_code ignored;  // the descriptor is gone either way
        socket_->close(ignored);
    }

    asio::steady_timer timer_;
    Socket* socket_ = nullptr;
    TimePoint due_ = TimePoint::max();
    TimePoint armed_for_ = TimePoint::max();  // no wait is pending
    bool expired_ = false;
};

// What the kernel takes at once, which is nearly always everything.
std::size_t send_now(Socket& socket, std::string_view bytes) {
    error_code ignored;  // comes again where the rest is sent
    return socket.write_some(asio::buffer(bytes.data(), bytes.size()), ignored);
}
std::size_t send_now(Tls&, std::string_view) { return 0; }

void set_option(Socket& socket, int level, int option, int value) {
    // Only latency, and how soon a dead peer is noticed, depend on them.
    (void)::setsockopt(socket.native_handle(), level, option, &value, sizeof value);
}

void prepare(Socket& socket, const Route& route) {
    error_code ignored;  // known to work on every socket; send_now() is why it is asked for
    socket.non_blocking(true, ignored);
    if (route.address.protocol().family() == AF_UNIX) return;
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdle);
    set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveInterval);
    set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
    set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(route.silence_max.count()));
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

struct Connection::Impl {
    Impl(asio::any_io_executor e, const Endpoint& where, Route way)
        : executor(std::move(e)),
          endpoint(where),
          route(std::move(way)),
          watch(std::make_shared<Watch>(executor)) {}
    ~Impl() { watch->stop(); }

    [[nodiscard]] Socket& lowest() { return secure ? secure->next_layer() : *plain; }
    asio::awaitable<Reply> ask_for_tunnel();
    asio::awaitable<Reply> shake_hands();
    template <typename Stream>
    asio::awaitable<Exchange> exchange_over(Stream& stream, std::string_view request);
    template <typename Stream>
    asio::awaitable<void> read_reply(Stream& stream, Exchange& out);
    [[nodiscard]] Reply failed(std::string_view doing, const error_code& ec, Transport otherwise);
    [[nodiscard]] ReplyReader::State feed();

    asio::any_io_executor executor;
    const Endpoint& endpoint;
    Route route;
    std::optional<Socket> plain;  // one of the two
    std::optional<Tls> secure;
    std::shared_ptr<Watch> watch;  // shared with its timer's handler
    ReplyReader reader;
    std::vector<char> buffer = std::vector<char>(kReadBufferMax);
    std::size_t buffered = 0;  // bytes of it that the reader has not used
};

// The one place where errors of Asio, Beast and OpenSSL become ours.
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
    : impl_(std::make_unique<Impl>(std::move(executor), endpoint, std::move(route))) {}

Connection::~Connection() = default;

asio::awaitable<Reply> Connection::open(TimePoint connect_by, TimePoint deadline) {
    auto& plain = impl_->plain.emplace(impl_->executor);
    impl_->watch->set(plain, connect_by);
    const auto [ec] = co_await plain.async_connect(impl_->route.address, nothrow);
    if (ec) {
        co_return impl_->failed(fmt::format("connect to {}", impl_->route.name), ec,
                                Transport::refused);
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

void Connection::keep_date() { impl_->reader.keep_date(); }

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

asio::awaitable<Exchange> Connection::exchange(std::string_view request, TimePoint deadline) {
    impl_->watch->set(impl_->lowest(), deadline);
    if (impl_->secure) return impl_->exchange_over(*impl_->secure, request);
    return impl_->exchange_over(*impl_->plain, request);
}

template <typename Stream>
asio::awaitable<Exchange> Connection::Impl::exchange_over(Stream& stream,
                                                          std::string_view request) {
    Exchange out;
    request.remove_prefix(send_now(stream, request));
    if (!request.empty()) {
        const auto [ec, written] = co_await asio::async_write(
            stream, asio::buffer(request.data(), request.size()), nothrow);
        if (ec) {
            out.reply = failed("send", ec, Transport::reset);
            co_return out;
        }
    }
    co_await read_reply(stream, out);
    // An idle connection must not run into the deadline of the request it served.
    watch->clear();
    co_return out;
}

ReplyReader::State Connection::Impl::feed() {
    const auto progress = reader.feed({buffer.data(), buffered});
    buffered -= progress.used;
    std::memmove(buffer.data(), buffer.data() + progress.used, buffered);
    return progress.state;
}

template <typename Stream>
asio::awaitable<void> Connection::Impl::read_reply(Stream& stream, Exchange& out) {
    reader.begin();
    auto state = ReplyReader::State::more;
    error_code ec;
    while (state == ReplyReader::State::more) {
        // Beast refuses a header long before it fills the buffer.
        const auto room = asio::buffer(buffer.data() + buffered, buffer.size() - buffered);
        const auto [read_ec, read] = co_await stream.async_read_some(room, nothrow);
        if (read_ec) {
            ec = read_ec;
            const bool ended = ec == asio::error::eof || ec == ssl::error::stream_truncated;
            state = ended ? reader.end(ec == asio::error::eof) : ReplyReader::State::failed;
            break;
        }
        out.any_reply = true;
        buffered += read;
        state = feed();
    }
    if (state == ReplyReader::State::failed) {
        if (reader.error()) ec = reader.error();
        const auto doing = reader.in_body() ? "read reply body" : "read reply";
        out.reply = failed(doing, ec, Transport::reset);
        co_return;
    }
    out.reusable = reader.reusable() && buffered == 0;
    out.reply = reader.take();
}

}  // namespace opsrelay::forward
