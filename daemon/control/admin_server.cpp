#include "control/admin_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "core/browser_rules.h"
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

using Parser = http::request_parser<http::string_body>;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

/// What a connection may do.
enum class Access : std::uint8_t {
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
    if (reads_only(request)) {
        if (parser.is_done()) return std::nullopt;
        return last_refusal(request, 400, "unexpected_body");
    }
    const bool may_change = access == Access::operate;
    if (may_change && request.method() == http::verb::post) return std::nullopt;
    if (request.method() == http::verb::post) {
        return last_refusal(request, 403, "only_over_admin_socket");
    }
    auto response = last_refusal(request, 405, "method_not_allowed");
    response.set(http::field::allow, may_change ? "GET, HEAD, POST" : "GET, HEAD");
    return response;
}

asio::awaitable<Response> answer(const AdminHandler& handler, Request& request) {
    const auto target = request.target();
    AdminRequest asked;
    asked.post = !reads_only(request);
    asked.path = std::string(target.substr(0, target.find('?')));
    asked.body = std::move(request.body());
    auto made = co_await handler(std::move(asked));
    auto response = plain(request, made.status, made.content_type, std::move(made.body));
    if (request.method() == http::verb::head) response.body().clear();  // the length stays
    co_return response;
}

// Who is at the other end of a Unix socket.
Access access_of(Local::socket& socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    const auto fd = socket.native_handle();
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return Access::none;
    return may_administer(peer.uid, ::geteuid()) ? Access::operate : Access::none;
}
Access access_of(Tcp::socket&) { return Access::loopback; }

template <typename Protocol>
asio::awaitable<void> serve(typename Protocol::socket socket, const AdminHandler& handler) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto access = access_of(socket);
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
        if (!response) response = co_await answer(handler, parser.get());
        stream.expires_after(kRequestTimeout);
        const auto [write_ec, written] = co_await http::async_write(stream, *response, nothrow);
        if (write_ec || !response->keep_alive()) co_return;
    }
}

}  // namespace

struct AdminServer::State {
    State(const asio::any_io_executor& executor, Clock& time, AdminHandler answerer)
        : clock(time),
          handler(std::move(answerer)),
          tcp(executor),
          local(executor),
          acceptors(executor, time),
          tcp_sessions(executor, time),
          local_sessions(executor, time) {}

    template <typename Protocol>
    asio::awaitable<void> accept(typename Protocol::acceptor& acceptor, TaskGroup& sessions) {
        const auto stop = co_await asio::this_coro::cancellation_state;
        while (stop.cancelled() == asio::cancellation_type::none) {
            auto [ec, socket] = co_await acceptor.async_accept(nothrow);
            if (ec == asio::error::operation_aborted) co_return;
            if (ec) {  // out of descriptors: wait instead of spinning
                co_await clock.sleep_for(milliseconds{100});
                continue;
            }
            if (sessions.size() >= kConnectionsMax) continue;  // closed at once
            sessions.spawn("admin", serve<Protocol>(std::move(socket), handler));
        }
    }

    Clock& clock;
    AdminHandler handler;
    Tcp::acceptor tcp;
    Local::acceptor local;
    TaskGroup acceptors;
    TaskGroup tcp_sessions;  // apart: whoever fills the port does not shut out the probes
    TaskGroup local_sessions;
};

AdminServer::AdminServer(asio::any_io_executor executor, Clock& clock, AdminHandler handler)
    : state_(std::make_unique<State>(executor, clock, std::move(handler))) {}

AdminServer::~AdminServer() = default;

Result<void> AdminServer::listen_tcp(const std::string& address, std::uint16_t port) {
    const auto what = fmt::format("admin.address {}:{}", address, port);
    error_code ec;
    const auto ip = asio::ip::make_address(address, ec);
    if (ec || !ip.is_loopback()) {
        return Error{Errc::config_invalid,
                     fmt::format("{} is not a loopback address; use 127.0.0.1 or ::1", what)};
    }
    const Tcp::endpoint endpoint(ip, port);
    auto& acceptor = state_->tcp;
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(Tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (!ec) return {};
    if (ec == asio::error::address_in_use) {
        return Error{
            Errc::address_in_use,
            fmt::format("{} is in use; stop what listens there or set admin.address", what)};
    }
    return Error{Errc::listener_failed, fmt::format("{}: {}", what, ec.message())};
}

Result<void> AdminServer::adopt_unix(UniqueFd socket) {
    error_code ec;
    state_->local.assign(Local(), socket.get(), ec);
    if (ec) return Error{Errc::listener_failed, fmt::format("admin.socket: {}", ec.message())};
    [[maybe_unused]] const int owned_by_acceptor = socket.release();
    return {};
}

std::uint16_t AdminServer::port() const noexcept {
    error_code ec;
    const auto endpoint = state_->tcp.local_endpoint(ec);
    return ec ? std::uint16_t{0} : endpoint.port();
}

void AdminServer::start() {
    auto& state = *state_;
    if (state.tcp.is_open()) {
        state.acceptors.spawn("admin tcp", state.accept<Tcp>(state.tcp, state.tcp_sessions));
    }
    if (state.local.is_open()) {
        state.acceptors.spawn("admin unix", state.accept<Local>(state.local, state.local_sessions));
    }
}

asio::awaitable<void> AdminServer::stop() {
    for (auto* group : {&state_->acceptors, &state_->tcp_sessions, &state_->local_sessions}) {
        group->cancel(asio::cancellation_type::terminal);
        co_await group->join();
    }
}

}  // namespace opsrelay::control
