#include "forward/connection.h"

#include <fmt/format.h>

#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <optional>
#include <utility>

#include "core/nothrow.h"

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

namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using boost::system::error_code;
using Plain = beast::tcp_stream;
using Tls = ssl::stream<beast::tcp_stream>;

constexpr std::size_t kFirstBodyBuffer = 1024;
constexpr int kInterimRepliesMax = 8;
// One read buffer per connection: a header of up to 8 KiB (Beast's limit) and a piece of body.
constexpr std::size_t kReadBufferMax = 16U << 10U;

Reply failure(Transport transport, std::string error) {
    Reply reply;
    reply.transport = transport;
    reply.error = std::move(error);
    return reply;
}

// The one place where errors of Asio, Beast and OpenSSL become ours.
Transport transport_of(const error_code& ec, Transport otherwise) {
    if (ec == beast::error::timeout) return Transport::timeout;
    return otherwise;
}

std::string what(std::string_view doing, const error_code& ec) {
    if (ec == beast::error::timeout) return fmt::format("{}: no answer in time", doing);
    if (ec == http::error::end_of_stream) return fmt::format("{}: closed by upstream", doing);
    return fmt::format("{}: {}", doing, ec.message());
}

std::optional<std::string> header(const http::fields& fields, http::field name) {
    const auto found = fields.find(name);
    if (found == fields.end()) return std::nullopt;
    return std::string(found->value());
}

}  // namespace

struct Connection::Impl {
    Impl(asio::any_io_executor e, const Endpoint& where, ssl::context* context)
        : executor(std::move(e)), endpoint(where), tls(context) {}

    [[nodiscard]] beast::tcp_stream& lowest() { return secure ? secure->next_layer() : *plain; }
    asio::awaitable<Reply> shake_hands(TimePoint deadline);
    template <typename Stream>
    asio::awaitable<Exchange> exchange_over(Stream& stream, std::string_view request);
    template <typename Stream>
    asio::awaitable<void> read_reply(Stream& stream, Exchange& out);

    asio::any_io_executor executor;
    const Endpoint& endpoint;
    ssl::context* tls;
    std::optional<Plain> plain;  // one of the two
    std::optional<Tls> secure;
    beast::flat_buffer buffer{kReadBufferMax};
};

Connection::Connection(asio::any_io_executor executor, const Endpoint& endpoint,
                       asio::ssl::context* tls)
    : impl_(std::make_unique<Impl>(std::move(executor), endpoint, tls)) {}

Connection::~Connection() = default;

asio::awaitable<Reply> Connection::open(asio::ip::tcp::endpoint address, TimePoint connect_by,
                                        TimePoint deadline) {
    auto& plain = impl_->plain.emplace(impl_->executor);
    plain.expires_at(connect_by);
    const auto [ec] = co_await plain.async_connect(address, nothrow);
    if (ec) {
        const auto doing =
            fmt::format("connect to {}:{}", address.address().to_string(), address.port());
        co_return failure(transport_of(ec, Transport::refused), what(doing, ec));
    }
    error_code ignored;  // only latency depends on it
    plain.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    if (impl_->tls == nullptr) co_return Reply{};
    co_return co_await impl_->shake_hands(deadline);
}

asio::awaitable<Reply> Connection::Impl::shake_hands(TimePoint deadline) {
    secure.emplace(std::move(*plain), *tls);
    plain.reset();
    auto* native = secure->native_handle();
    // RFC 6066 section 3: no SNI for addresses.
    if (!endpoint.numeric && SSL_set_tlsext_host_name(native, endpoint.host.c_str()) != 1) {
        co_return failure(Transport::tls, "TLS: the host name cannot be sent as SNI");
    }
    if (!expect_peer(native, endpoint)) {
        co_return failure(Transport::tls, "TLS: the host name cannot be verified");
    }
    lowest().expires_at(deadline);
    const auto [ec] = co_await secure->async_handshake(ssl::stream_base::client, nothrow);
    if (!ec) co_return Reply{};
    const auto doing = fmt::format("TLS handshake with {}", endpoint.host_header);
    const auto verdict = SSL_get_verify_result(native);
    if (verdict != X509_V_OK) {
        co_return failure(Transport::tls, fmt::format("{}: certificate refused: {}", doing,
                                                      X509_verify_cert_error_string(verdict)));
    }
    co_return failure(transport_of(ec, Transport::tls), what(doing, ec));
}

asio::awaitable<Exchange> Connection::exchange(std::string_view request, TimePoint deadline) {
    impl_->lowest().expires_at(deadline);
    if (impl_->secure) co_return co_await impl_->exchange_over(*impl_->secure, request);
    co_return co_await impl_->exchange_over(*impl_->plain, request);
}

template <typename Stream>
asio::awaitable<Exchange> Connection::Impl::exchange_over(Stream& stream,
                                                          std::string_view request) {
    Exchange out;
    const auto [ec, written] =
        co_await asio::async_write(stream, asio::buffer(request.data(), request.size()), nothrow);
    if (ec) {
        out.reply = failure(transport_of(ec, Transport::reset), what("send", ec));
        co_return out;
    }
    co_await read_reply(stream, out);
    // An idle connection must not run into the deadline of the request it served.
    if (out.reusable) lowest().expires_never();
    co_return out;
}

template <typename Stream>
asio::awaitable<void> Connection::Impl::read_reply(Stream& stream, Exchange& out) {
    std::optional<http::response_parser<http::buffer_body>> parser;
    for (int i = 0; i <= kInterimRepliesMax; ++i) {
        parser.emplace();
        parser->body_limit(boost::none);  // bounded below, without an error
        const auto [ec, read] = co_await http::async_read_header(stream, buffer, *parser, nothrow);
        out.any_reply = out.any_reply || parser->got_some() || buffer.size() > 0;
        if (ec) {
            out.reply = failure(transport_of(ec, Transport::reset), what("read reply", ec));
            co_return;
        }
        if (parser->get().result_int() / 100 != 1) break;
    }
    auto& message = parser->get();
    out.reply.status = static_cast<int>(message.result_int());
    out.reply.retry_after = header(message, http::field::retry_after);
    out.reply.date = header(message, http::field::date);
    auto& body = out.reply.body;
    std::size_t filled = 0;
    while (!parser->is_done()) {
        if (filled == kReplyBodyMax) {
            out.reply.body_cut = true;
            break;
        }
        if (filled == body.size()) {
            body.resize(std::min(std::max(filled * 4, kFirstBodyBuffer), kReplyBodyMax));
        }
        message.body().data = body.data() + filled;
        message.body().size = body.size() - filled;
        const auto [ec, read] = co_await http::async_read(stream, buffer, *parser, nothrow);
        filled = body.size() - message.body().size;
        if (!ec || ec == http::error::need_buffer) continue;
        // Many servers end TLS without close_notify; for a body without a length that is its end.
        if (ec == ssl::error::stream_truncated && parser->need_eof()) break;
        out.reply = failure(transport_of(ec, Transport::reset), what("read reply body", ec));
        co_return;
    }
    body.resize(filled);
    out.reusable =
        !out.reply.body_cut && parser->is_done() && parser->keep_alive() && buffer.size() == 0;
}

}  // namespace opsrelay::forward
