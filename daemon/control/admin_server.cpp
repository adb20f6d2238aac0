#include "control/admin_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <optional>
#include <utility>

#include "core/browser_rules.h"
#include "core/json_text.h"
#include "core/log.h"
#include "core/nothrow.h"
#include "core/task_group.h"

namespace opsrelay::control {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Tcp = asio::ip::tcp;
using Local = asio::local::stream_protocol;

namespace {

constexpr std::size_t kConnectionsMax = 64;
constexpr seconds kRequestTimeout{10};
constexpr std::uint32_t kHeaderBytesMax = 8U << 10U;
constexpr std::string_view kTailPath = "/tail";
// For one who stopped reading, such as a pager.
constexpr minutes kTailPatience{10};

using Parser = http::request_parser<http::string_body>;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

/// What a connection may do.
enum class Access : std::uint8_t {
    scrape,    // read kMetricsPath, from anywhere
    loopback,  // read; browsers reach it too
    operate,   // read and change
    none,      // another user's process on the Unix socket
};

Response plain(const Request& request, unsigned status, std::string content_type,
               std::string body) {
    Response response(static_cast<http::status>(status), request.version());
    response.set(http::field::content_type, content_type);
    response.set(http::field::cache_control, "no-store");
    response.keep_alive(request.keep_alive());
    response.body() = std::move(body);
    response.prepare_payload();
    return response;
}

Response refusal(const Request& request, unsigned status, std::string_view reason) {
    return plain(request, status, "application/json",
                 fmt::format(R"({{"ok":false,"reason":"{}"}})", reason));
}

// Nothing more is read from a connection whose request was not taken to its end.
Response last_refusal(const Request& request, unsigned status, std::string_view reason) {
    auto response = refusal(request, status, reason);
    response.keep_alive(false);
    return response;
}

std::string_view path_of(const Request& request) {
    const std::string_view target(request.target().data(), request.target().size());
    return target.substr(0, target.find('?'));
}

bool reads_only(const Request& request) {
    return request.method() == http::verb::get || request.method() == http::verb::head;
}

// The reply to what is not a request that can be answered, after which the connection ends. Status
// 200: none is due, because nobody is there to read it.
Response refusal_of(const Request& request, error_code ec) {
    if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
        return last_refusal(request, 431, "header_too_large");
    }
    if (ec == http::error::body_limit) return last_refusal(request, 413, "body_too_large");
    if (ec.category() == http::make_error_code(http::error::bad_value).category() &&
        ec != http::error::end_of_stream && ec != http::error::partial_message) {
        return last_refusal(request, 400, "not_http");
    }
    Response none;
    none.keep_alive(false);
    return none;
}

// Decides by the header alone, so that no body is read in vain. nullopt: go on.
std::optional<Response> refused(const Parser& parser, Access access) {
    const auto& request = parser.get();
    if (access == Access::none) return last_refusal(request, 403, "peer_not_allowed");
    if (access == Access::loopback && !is_local_host(request[http::field::host])) {
        return last_refusal(request, 403, "host_not_local");
    }
    if (!is_local_origin(request[http::field::origin])) {
        return last_refusal(request, 403, "origin_not_local");
    }
    if (access == Access::loopback && path_of(request) == kTailPath) {
        return last_refusal(request, 403, "only_over_admin_socket");
    }
    if (reads_only(request)) {
        if (!parser.is_done()) return last_refusal(request, 400, "unexpected_body");
        if (access != Access::scrape || path_of(request) == kMetricsPath) return std::nullopt;
        return refusal(request, 404, "not_found");
    }
    const bool may_change = access == Access::operate;
    if (may_change && request.method() == http::verb::post) return std::nullopt;
    if (access == Access::loopback && request.method() == http::verb::post) {
        return last_refusal(request, 403, "only_over_admin_socket");
    }
    auto response = last_refusal(request, 405, "method_not_allowed");
    response.set(http::field::allow, may_change ? "GET, HEAD, POST" : "GET, HEAD");
    return response;
}

asio::awaitable<Response> answer(const AdminHandler& handler, Request& request) {
    AdminRequest asked;
    asked.post = !reads_only(request);
    asked.path = path_of(request);
    asked.body = std::move(request.body());
    auto made = co_await handler(std::move(asked));
    auto response = plain(request, made.status, made.content_type, std::move(made.body));
    if (request.method() == http::verb::head) response.body().clear();  // the length stays
    co_return response;
}

// Of a Unix socket by who is at the other end; a port's is its own.
Access access_of(Local::socket& socket, Access) {
    ucred peer{};
    socklen_t size = sizeof peer;
    const auto fd = socket.native_handle();
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return Access::none;
    return may_administer(peer.uid, ::geteuid()) ? Access::operate : Access::none;
}
Access access_of(Tcp::socket&, Access of_port) { return of_port; }

// Who may have the lines, and which; else `response` says why not.
std::unique_ptr<Tail::Reader> join_tail(const Request& request, Tail& tail,
                                        std::optional<Response>& response) {
    const std::string_view target(request.target().data(), request.target().size());
    const auto path = target.substr(0, target.find('?'));
    auto filter = tail.filter_of(target.substr(std::min(target.size(), path.size() + 1)));
    if (!filter) {
        response = plain(request, 400, "application/json",
                         fmt::format(R"({{"ok":false,"reason":"bad_filter","message":{}}})",
                                     json_string(filter.error().context)));
        return nullptr;
    }
    auto reader = tail.join(*std::move(filter));
    if (!reader) {
        response = plain(request, 503, "application/json",
                         fmt::format(R"({{"ok":false,"reason":"too_many_tails",)"
                                     R"("message":"{} watch already; end one of them"}})",
                                     kTailersMax));
    }
    return reader;
}

// Lines until the peer goes or the server stops. The empty one in between finds out about a peer
// that has gone.
template <typename Protocol>
asio::awaitable<void> stream_tail(beast::basic_stream<Protocol>& stream, Tail::Reader& reader,
                                  Clock& clock) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    std::string lines =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-store\r\n"
        "Connection: close\r\n\r\n";
    while (stop.cancelled() == asio::cancellation_type::none) {
        stream.expires_after(kTailPatience);
        const auto [ec, written] = co_await asio::async_write(stream, asio::buffer(lines), nothrow);
        if (ec) co_return;
        lines = co_await reader.next(clock.now() + kTailBeat);
        if (lines.empty()) lines = "\n";
    }
}

/// What all connections share.
struct Service {
    Clock& clock;
    AdminHandler handler;
    Tail* tail = nullptr;  // null: there is none
};

template <typename Protocol>
asio::awaitable<void> serve(typename Protocol::socket socket, const Service& service,
                            Access of_acceptor) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto access = access_of(socket, of_acceptor);
    beast::basic_stream<Protocol> stream(std::move(socket));
    beast::flat_buffer buffer(kHeaderBytesMax);
    while (stop.cancelled() == asio::cancellation_type::none) {
        Parser parser;
        parser.header_limit(kHeaderBytesMax);
        parser.body_limit(kAdminBodyMax);
        stream.expires_after(kRequestTimeout);
        auto [ec, header] = co_await http::async_read_header(stream, buffer, parser, nothrow);
        std::optional<Response> response;
        if (!ec) response = refused(parser, access);
        if (!ec && !response && !parser.is_done()) {
            const auto [body_ec, body] = co_await http::async_read(stream, buffer, parser, nothrow);
            ec = body_ec;
        }
        if (ec) response = refusal_of(parser.get(), ec);
        if (ec && response->result() == http::status::ok) co_return;  // the peer is gone
        const bool tails = !ec && !response && access == Access::operate &&
                           service.tail != nullptr && parser.get().method() == http::verb::get &&
                           path_of(parser.get()) == kTailPath;
        if (tails) {
            const auto reader = join_tail(parser.get(), *service.tail, response);
            if (reader) co_return co_await stream_tail<Protocol>(stream, *reader, service.clock);
        }
        if (!response) response = co_await answer(service.handler, parser.get());
        stream.expires_after(kRequestTimeout);
        const auto [write_ec, written] = co_await http::async_write(stream, *response, nothrow);
        if (write_ec || !response->keep_alive()) co_return;
    }
}

}  // namespace

struct AdminServer::State {
    /// An acceptor and its connections; each has its own, so that whoever fills a port does not
    /// shut out the probes.
    template <typename Protocol>
    struct Door {
        Door(const asio::any_io_executor& executor, Clock& clock, Access of_door)
            : acceptor(executor), sessions(executor, clock), access(of_door) {}
        typename Protocol::acceptor acceptor;
        TaskGroup sessions;
        const Access access;
    };

    State(const asio::any_io_executor& executor, Clock& time, AdminHandler answerer)
        : service{time, std::move(answerer), nullptr},
          tcp(executor, time, Access::loopback),
          metrics(executor, time, Access::scrape),
          local(executor, time, Access::operate),
          acceptors(executor, time) {}

    template <typename Protocol>
    asio::awaitable<void> accept(Door<Protocol>& door) {
        const auto stop = co_await asio::this_coro::cancellation_state;
        while (stop.cancelled() == asio::cancellation_type::none) {
            auto [ec, socket] = co_await door.acceptor.async_accept(nothrow);
            if (ec == asio::error::operation_aborted) continue;  // stopped, or replaced
            if (ec) {  // out of descriptors: wait instead of spinning
                co_await service.clock.sleep_for(milliseconds{100});
                continue;
            }
            if (door.sessions.size() >= kConnectionsMax) continue;  // closed at once
            door.sessions.spawn("admin", serve<Protocol>(std::move(socket), service, door.access));
        }
    }

    template <typename Protocol>
    void start(Door<Protocol>& door) {
        if (door.acceptor.is_open()) acceptors.spawn("admin accept", accept(door));
    }

    Service service;
    Door<Tcp> tcp;
    Door<Tcp> metrics;
    Door<Local> local;
    TaskGroup acceptors;
};

AdminServer::AdminServer(asio::any_io_executor executor, Clock& clock, AdminHandler handler)
    : state_(std::make_unique<State>(executor, clock, std::move(handler))) {}

AdminServer::~AdminServer() = default;

namespace {

// `key`: what sets the address.
Result<void> listen_at(Tcp::acceptor& acceptor, const asio::ip::address& ip, std::uint16_t port,
                       std::string_view key) {
    const Tcp::endpoint endpoint(ip, port);
    error_code ec;
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(Tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (!ec) return {};
    const auto what = fmt::format("{} {}:{}", key, ip.to_string(), port);
    if (ec == asio::error::address_in_use) {
        return Error{Errc::address_in_use,
                     fmt::format("{} is in use; stop what listens there or set {}", what, key)};
    }
    return Error{Errc::listener_failed, fmt::format("{}: {}", what, ec.message())};
}

Result<void> adopt_at(Tcp::acceptor& acceptor, UniqueFd socket, std::string_view key) {
    int family = 0;
    socklen_t length = sizeof family;
    error_code ec;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &family, &length) != 0) {
        ec.assign(errno, boost::system::system_category());
    }
    if (!ec) acceptor.assign(family == AF_INET6 ? Tcp::v6() : Tcp::v4(), socket.get(), ec);
    if (ec) return Error{Errc::listener_failed, fmt::format("{}: {}", key, ec.message())};
    [[maybe_unused]] const int owned_by_acceptor = socket.release();
    return {};
}

std::uint16_t port_of(const Tcp::acceptor& acceptor) noexcept {
    error_code ec;
    const auto endpoint = acceptor.local_endpoint(ec);
    return ec ? std::uint16_t{0} : endpoint.port();
}

}  // namespace

Result<void> AdminServer::listen_tcp(const std::string& address, std::uint16_t port) {
    error_code ec;
    const auto ip = asio::ip::make_address(address, ec);
    if (ec || !ip.is_loopback()) {
        return Error{Errc::config_invalid,
                     fmt::format("admin.address {}:{} is not a loopback address; use 127.0.0.1 or "
                                 "::1",
                                 address, port)};
    }
    return listen_at(state_->tcp.acceptor, ip, port, "admin.address");
}

Result<void> AdminServer::listen_metrics(const std::string& address, std::uint16_t port) {
    error_code ec;
    const auto ip = asio::ip::make_address(address, ec);
    if (ec) {
        return Error{Errc::config_invalid,
                     fmt::format("metrics.address {}:{} is not an address; write 0.0.0.0 or ::",
                                 address, port)};
    }
    return listen_at(state_->metrics.acceptor, ip, port, "metrics.address");
}

Result<void> AdminServer::adopt_unix(UniqueFd socket) {
    error_code ec;
    state_->local.acceptor.assign(Local(), socket.get(), ec);
    if (ec) return Error{Errc::listener_failed, fmt::format("admin.socket: {}", ec.message())};
    [[maybe_unused]] const int owned_by_acceptor = socket.release();
    return {};
}

Result<void> AdminServer::replace_unix(UniqueFd socket) {
    error_code ignored;
    state_->local.acceptor.close(ignored);
    return adopt_unix(std::move(socket));
}

Result<void> AdminServer::adopt_tcp(UniqueFd socket) {
    return adopt_at(state_->tcp.acceptor, std::move(socket), "admin.address");
}

Result<void> AdminServer::adopt_metrics(UniqueFd socket) {
    return adopt_at(state_->metrics.acceptor, std::move(socket), "metrics.address");
}

std::uint16_t AdminServer::port() const noexcept { return port_of(state_->tcp.acceptor); }

std::uint16_t AdminServer::metrics_port() const noexcept {
    return port_of(state_->metrics.acceptor);
}

void AdminServer::serve_tail(Tail& tail) noexcept { state_->service.tail = &tail; }

void AdminServer::start() {
    state_->start(state_->tcp);
    state_->start(state_->metrics);
    state_->start(state_->local);
}

asio::awaitable<void> AdminServer::stop() {
    auto& state = *state_;
    for (auto* group :
         {&state.acceptors, &state.tcp.sessions, &state.metrics.sessions, &state.local.sessions}) {
        group->cancel(asio::cancellation_type::terminal);
        co_await group->join();
    }
}

}  // namespace opsrelay::control
