#include "upstream/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <list>
#include <optional>
#include <type_traits>

#include "core/json_text.h"
#include "core/nothrow.h"
#include "core/task_group.h"
#include "upstream/service.h"
#include "upstream/tls.h"
#include "upstream/wire.h"

namespace opsrelay::upstream {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using TlsStream = ssl::stream<beast::tcp_stream>;
using Parser = http::request_parser<http::string_body>;

constexpr seconds kHandshakeMax{10};
constexpr seconds kWriteMax{30};
constexpr std::size_t kHeaderBytesMax = 16U << 10U;
constexpr std::size_t kPieces = 10;

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

beast::tcp_stream& lowest(beast::tcp_stream& stream) { return stream; }
beast::tcp_stream& lowest(TlsStream& stream) { return stream.next_layer(); }

/// Closes with RST instead of FIN: what a crashed host or a cut connection looks like.
void reset(beast::tcp_stream& stream) {
    error_code ignored;
    stream.socket().set_option(asio::socket_base::linger(true, 0), ignored);
    stream.close();
}

void say_goodbye(beast::tcp_stream& stream) {
    error_code ignored;
    stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
}

/// One listening port and its connections. The list does not own: streams live in their coroutines.
struct Listener {
    Port port;
    tcp::endpoint endpoint;
    tcp::acceptor acceptor;
    tcp::acceptor hold;  // bound for life and never listening: nobody is given the port meanwhile
    std::list<beast::tcp_stream*> streams;
    std::uint64_t generation = 0;  // of the acceptor: an old accept loop ends itself
};

/// Puts a stream into its listener's list for as long as it lives.
class Registration {
public:
    Registration(Listener& listener, beast::tcp_stream& stream)
        : list_(listener.streams), at_(list_.insert(list_.end(), &stream)) {}
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    ~Registration() { list_.erase(at_); }

private:
    std::list<beast::tcp_stream*>& list_;
    std::list<beast::tcp_stream*>::iterator at_;
};

}  // namespace

class Server::Impl {
public:
    Impl(asio::any_io_executor executor, Clock& clock, Settings settings)
        : settings_(std::move(settings)),
          clock_(clock),
          service_(settings_, clock),
          tasks_(executor, clock),
          ingest_{Port::ingest, {}, tcp::acceptor(executor), tcp::acceptor(executor), {}},
          control_{Port::control, {}, tcp::acceptor(executor), tcp::acceptor(executor), {}} {}

    Result<void> start();
    void stop();
    std::uint16_t port(Port which) const noexcept {
        return (which == Port::ingest ? ingest_ : control_).endpoint.port();
    }
    std::string url(Port which) const;
    std::string stats_json() const { return service_.stats_json(); }

private:
    Result<void> open(Listener& listener);
    void close(Listener& listener);
    /// Opens or closes the ingest port as the behaviour says.
    Result<void> apply_down();

    asio::awaitable<void> accept_loop(Listener& listener);
    asio::awaitable<void> connection(Listener& listener, tcp::socket socket);
    template <typename Stream>
    asio::awaitable<void> serve(Listener& listener, Stream& stream);
    std::uint64_t body_limit(Port port) const;
    Reply answer(Listener& listener, const Parser& parser);

    // Each is false when the connection must not be used any more.
    template <typename Stream>
    asio::awaitable<bool> deliver(Stream& stream, const Reply& reply, bool keep_alive);
    template <typename Stream>
    asio::awaitable<bool> send(Stream& stream, std::string_view head, std::string_view body);
    template <typename Stream>
    asio::awaitable<bool> send_pieces(Stream& stream, const Reply& reply, std::string_view head);
    template <typename Stream>
    asio::awaitable<bool> send_rows(Stream& stream, const Reply& reply, bool keep_alive);
    template <typename Stream>
    asio::awaitable<void> keep_silent(Stream& stream, milliseconds duration);

    std::string head_of(const Reply& reply, bool keep_alive, std::optional<std::size_t> size);
    const std::string& date();

    // Constant after start().
    Settings settings_;
    Clock& clock_;
    std::optional<ssl::context> tls_;

    Service service_;
    TaskGroup tasks_;
    Listener ingest_;
    Listener control_;
    bool stopping_ = false;
    WallTime date_at_{};
    std::string date_;
};

Result<void> Server::Impl::start() {
    error_code ec;
    const auto address = asio::ip::make_address(settings_.address, ec);
    if (ec || !address.is_loopback()) {
        return Error{Errc::config_invalid,
                     fmt::format("--address \"{}\" is not a loopback address; use 127.0.0.1 or ::1",
                                 settings_.address)};
    }
    if (settings_.tls.on()) {
        auto context = make_tls_context(settings_.tls);
        if (!context) return context.error();
        tls_.emplace(std::move(*context));
    }
    ingest_.endpoint = {address, settings_.port};
    control_.endpoint = {address, settings_.control_port};
    // Opened even when it starts down: a port chosen by the system must be known from the start.
    if (const auto opened = open(ingest_); !opened) return opened.error();
    if (const auto opened = open(control_); !opened) return opened.error();
    return apply_down();
}

Result<void> Server::Impl::open(Listener& listener) {
    const auto bind = [&](tcp::acceptor& socket) {
        error_code ec;
        socket.open(listener.endpoint.protocol(), ec);
        if (!ec) socket.set_option(asio::socket_base::reuse_address(true), ec);
        if (!ec) socket.bind(listener.endpoint, ec);
        if (!ec) listener.endpoint = socket.local_endpoint(ec);
        return ec;
    };
    error_code ec;
    auto& acceptor = listener.acceptor;
    if (!listener.hold.is_open()) ec = bind(listener.hold);
    if (!ec) ec = bind(acceptor);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (ec) {
        error_code ignored;
        acceptor.close(ignored);
        const bool taken = ec == asio::error::address_in_use;
        return Error{taken ? Errc::address_in_use : Errc::listener_failed,
                     fmt::format("listen on {}:{}: {}{}", listener.endpoint.address().to_string(),
                                 listener.endpoint.port(), ec.message(),
                                 taken ? "; port 0 takes any free one" : "")};
    }
    ++listener.generation;
    tasks_.spawn("accept", accept_loop(listener));
    return {};
}

void Server::Impl::close(Listener& listener) {
    error_code ignored;
    listener.acceptor.close(ignored);
    for (auto* stream : listener.streams) reset(*stream);
}

Result<void> Server::Impl::apply_down() {
    const bool down = service_.behaviour().down;
    if (down == !ingest_.acceptor.is_open() || stopping_) return {};
    if (!down) return open(ingest_);
    close(ingest_);
    return {};
}

void Server::Impl::stop() {
    stopping_ = true;
    tasks_.cancel(asio::cancellation_type::terminal);
    close(ingest_);
    close(control_);
}

std::string Server::Impl::url(Port which) const {
    const auto& endpoint = (which == Port::ingest ? ingest_ : control_).endpoint;
    const bool v6 = endpoint.address().is_v6();
    return fmt::format("{}://{}{}{}:{}", which == Port::ingest && tls_ ? "https" : "http",
                       v6 ? "[" : "", endpoint.address().to_string(), v6 ? "]" : "",
                       endpoint.port());
}

asio::awaitable<void> Server::Impl::accept_loop(Listener& listener) {
    const auto generation = listener.generation;
    const auto live = [&] { return listener.acceptor.is_open() && !stopping_; };
    while (live() && listener.generation == generation) {
        auto [ec, socket] = co_await listener.acceptor.async_accept(nothrow);
        if (ec == asio::error::operation_aborted || !live()) co_return;
        if (ec) {  // out of descriptors, or a peer that left at once
            co_await clock_.sleep_for(milliseconds{10});
            continue;
        }
        if (listener.streams.size() >= settings_.connections_max) {
            ++service_.connections.refused;
            continue;
        }
        tasks_.spawn("connection", connection(listener, std::move(socket)));
    }
}

asio::awaitable<void> Server::Impl::connection(Listener& listener, tcp::socket socket) {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    auto& counts = service_.connections;
    const bool counted = listener.port == Port::ingest;
    if (counted) {
        ++counts.total;
        counts.peak = std::max(counts.peak, ++counts.open);
    }
    if (counted && tls_) {
        TlsStream stream(beast::tcp_stream(std::move(socket)), *tls_);
        const Registration registered(listener, lowest(stream));
        lowest(stream).expires_after(kHandshakeMax);
        const auto [ec] = co_await stream.async_handshake(ssl::stream_base::server, nothrow);
        if (ec) {
            ++counts.tls_failures;
        } else {
            co_await serve(listener, stream);
        }
    } else {
        beast::tcp_stream stream(std::move(socket));
        const Registration registered(listener, stream);
        co_await serve(listener, stream);
    }
    if (counted) --counts.open;
}

template <typename Stream>
asio::awaitable<void> Server::Impl::serve(Listener& listener, Stream& stream) {
    beast::flat_buffer buffer;
    bool keep_alive = true;
    while (keep_alive && !stopping_) {
        Parser parser;
        parser.header_limit(kHeaderBytesMax);
        parser.body_limit(body_limit(listener.port));
        lowest(stream).expires_after(milliseconds{service_.behaviour().idle_ms});
        const auto [ec, size] = co_await http::async_read(stream, buffer, parser, nothrow);
        Reply reply;
        if (ec == http::error::body_limit) {
            reply = service_.refuse(413, "payload_too_large");
        } else if (ec && ec.category() == make_error_code(http::error::bad_method).category() &&
                   ec != http::error::end_of_stream && ec != http::error::partial_message) {
            reply = service_.refuse(400, "bad_request");
        } else if (ec) {
            co_return;
        } else {
            reply = answer(listener, parser);
            keep_alive = parser.get().keep_alive();
        }
        if (reply.close) keep_alive = false;
        keep_alive = co_await deliver(stream, reply, keep_alive);
    }
    if constexpr (std::is_same_v<Stream, TlsStream>) {
        if (lowest(stream).socket().is_open()) {
            lowest(stream).expires_after(kHandshakeMax);
            (void)co_await stream.async_shutdown(nothrow);
        }
    } else {
        say_goodbye(stream);
    }
}

/// What one request may make us hold; the endpoints have limits of their own within it.
std::uint64_t Server::Impl::body_limit(Port port) const {
    if (port == Port::control) return kControlBytesMax.count;
    const auto& now = service_.behaviour();
    return static_cast<std::uint64_t>(std::max(now.body_bytes_max, now.batch.bytes_max));
}

Reply Server::Impl::answer(Listener& listener, const Parser& parser) {
    const auto& message = parser.get();
    Request request;
    request.method = view(message.method_string());
    request.target = view(message.target());
    request.api_key = view(message["X-API-Key"]);
    request.body = message.body();
    request.content_type = view(message[http::field::content_type]);
    request.content_encoding = view(message[http::field::content_encoding]);
    request.authorization = view(message[http::field::authorization]);
    auto reply = service_.handle(listener.port, request);
    if (listener.port == Port::control) {
        if (const auto applied = apply_down(); !applied) {
            reply = {};
            reply.status = 500;
            reply.body =
                fmt::format("{{\"ok\":false,\"reason\":\"listen_failed\",\"message\":{}}}\n",
                            json_string(applied.error().context));
        }
    }
    return reply;
}

// No co_await inside a switch, and none with a temporary of class type in its expression: g++ 12
// makes a trap of the one and destroys the other twice.
template <typename Stream>
asio::awaitable<bool> Server::Impl::deliver(Stream& stream, const Reply& reply, bool keep_alive) {
    if (reply.delay.count() > 0) co_await clock_.sleep_for(reply.delay);
    bool usable = false;
    if (reply.delivery == Delivery::whole) {
        const auto head = head_of(reply, keep_alive, reply.body.size());
        usable = co_await send(stream, head, reply.body);
    } else if (reply.delivery == Delivery::rows) {
        usable = co_await send_rows(stream, reply, keep_alive);
    } else if (reply.delivery == Delivery::pieces) {
        const auto head = head_of(reply, keep_alive, reply.body.size());
        usable = co_await send_pieces(stream, reply, head);
    } else if (reply.delivery == Delivery::truncated) {
        const auto head = head_of(reply, keep_alive, reply.body.size());
        const auto half = std::string_view(reply.body).substr(0, reply.body.size() / 2);
        co_await send(stream, head, half);
        say_goodbye(lowest(stream));
        lowest(stream).close();
    } else if (reply.delivery == Delivery::silence) {
        co_await keep_silent(stream, reply.pause);
        lowest(stream).close();
    } else {
        reset(lowest(stream));
    }
    co_return usable&& keep_alive;
}

template <typename Stream>
asio::awaitable<bool> Server::Impl::send(Stream& stream, std::string_view head,
                                         std::string_view body) {
    const std::array<asio::const_buffer, 2> buffers{asio::buffer(head), asio::buffer(body)};
    lowest(stream).expires_after(kWriteMax);
    const auto [ec, size] = co_await asio::async_write(stream, buffers, nothrow);
    co_return !ec;
}

template <typename Stream>
asio::awaitable<bool> Server::Impl::send_pieces(Stream& stream, const Reply& reply,
                                                std::string_view head) {
    const std::string_view body = reply.body;
    const auto step = body.size() / kPieces + 1;
    bool usable = co_await send(stream, head, std::string_view());
    for (std::size_t at = 0; usable && at < body.size(); at += step) {
        co_await clock_.sleep_for(reply.pause);
        if (stopping_) co_return false;
        usable = co_await send(stream, body.substr(at, step), std::string_view());
    }
    co_return usable;
}

template <typename Stream>
asio::awaitable<bool> Server::Impl::send_rows(Stream& stream, const Reply& reply, bool keep_alive) {
    const auto& rows = service_.rows();
    const auto generation = rows.generation();
    auto row = std::min(reply.rows.offset, rows.size());
    const auto end = row + std::min(reply.rows.limit, rows.size() - row);
    auto prefix = head_of(reply, keep_alive, std::nullopt);
    std::string text;
    while (row < end) {
        text.clear();
        row = append_rows(text, rows, reply.rows.ids, row, end);
        prefix += fmt::format("{:x}\r\n", text.size());
        text += "\r\n";
        const bool sent = co_await send(stream, prefix, text);
        // Cleared meanwhile: the reply has no good end.
        if (!sent || rows.generation() != generation) co_return false;
        prefix.clear();
    }
    prefix += "0\r\n\r\n";
    co_return co_await send(stream, prefix, std::string_view());
}

template <typename Stream>
asio::awaitable<void> Server::Impl::keep_silent(Stream& stream, milliseconds duration) {
    lowest(stream).expires_after(duration);
    std::array<char, 1024> ignored{};
    while (!stopping_) {
        const auto [ec, size] = co_await stream.async_read_some(asio::buffer(ignored), nothrow);
        if (ec) co_return;  // the client went, or the time is over
    }
}

const std::string& Server::Impl::date() {
    const auto now = std::chrono::floor<seconds>(service_.now());
    if (now != date_at_ || date_.empty()) {
        date_at_ = now;
        date_ = http_date(RetryForm::imf_fixdate, now);
    }
    return date_;
}

std::string Server::Impl::head_of(const Reply& reply, bool keep_alive,
                                  std::optional<std::size_t> size) {
    return reply_head(reply, date(), keep_alive, size);
}

Server::Server(asio::any_io_executor executor, Clock& clock, Settings settings)
    : impl_(std::make_unique<Impl>(std::move(executor), clock, std::move(settings))) {}
Server::~Server() = default;
Result<void> Server::start() { return impl_->start(); }
void Server::stop() { impl_->stop(); }
std::uint16_t Server::port() const noexcept { return impl_->port(Port::ingest); }
std::uint16_t Server::control_port() const noexcept { return impl_->port(Port::control); }
std::string Server::url() const { return impl_->url(Port::ingest); }
std::string Server::control_url() const { return impl_->url(Port::control); }
std::string Server::stats_json() const { return impl_->stats_json(); }

}  // namespace opsrelay::upstream
