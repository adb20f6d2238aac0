#include "forward/http_upstream.h"

#include <fmt/format.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "core/nothrow.h"

namespace opsrelay::forward {

namespace {

namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t kAddressesMax = 8;

Reply failure(Transport transport, std::string error) {
    Reply reply;
    reply.transport = transport;
    reply.error = std::move(error);
    return reply;
}

/// A name being resolved. Shared: the resolver's handler comes when the name server answers or the
/// system gives up, which may be after the request that asked has gone.
struct Resolution {
    Resolution(const asio::any_io_executor& executor, std::shared_ptr<std::size_t> count)
        : resolver(executor), wake(executor, TimePoint::max()), under_way(std::move(count)) {}
    tcp::resolver resolver;
    asio::steady_timer wake;
    std::shared_ptr<std::size_t> under_way;
    bool done = false;
    error_code ec;
    std::vector<tcp::endpoint> addresses;
};

void begin(const std::shared_ptr<Resolution>& state, const Endpoint& endpoint) {
    ++*state->under_way;
    state->resolver.async_resolve(
        endpoint.host, fmt::format("{}", endpoint.port),
        tcp::resolver::numeric_service | tcp::resolver::address_configured,
        [state](const error_code& ec, const tcp::resolver::results_type& results) {
            --*state->under_way;
            state->done = true;
            state->ec = ec;
            for (const auto& result : results) {
                if (state->addresses.size() < kAddressesMax) {
                    state->addresses.push_back(result.endpoint());
                }
            }
            state->wake.cancel();
        });
}

}  // namespace

HttpUpstream::HttpUpstream(asio::any_io_executor forward, Clock& clock, const Options& options,
                           Endpoint endpoint)
    : executor_(std::move(forward)),
      clock_(clock),
      options_(options),
      endpoint_(std::move(endpoint)) {}

Result<std::unique_ptr<HttpUpstream>> HttpUpstream::make(asio::any_io_executor forward,
                                                         Clock& clock, const Options& options) {
    auto endpoint = parse_endpoint(options);
    if (!endpoint) return endpoint.error();
    std::unique_ptr<HttpUpstream> made(
        new HttpUpstream(std::move(forward), clock, options, std::move(*endpoint)));
    if (auto loaded = made->load_trust(); !loaded) return loaded.error();
    return made;
}

Result<void> HttpUpstream::load_trust() {
    if (!endpoint_.tls) return {};
    auto& tls = tls_.emplace(ssl::context::tls_client);
    error_code ec;
    tls.set_options(ssl::context::default_workarounds, ec);
    if (SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_2_VERSION) != 1) {
        return Error{Errc::config_invalid, "upstream.url: OpenSSL here cannot do TLS 1.2"};
    }
    // Idle connections give their record buffers back.
    SSL_CTX_set_mode(tls.native_handle(), SSL_MODE_RELEASE_BUFFERS);
    tls.set_verify_mode(ssl::verify_peer, ec);
    tls.set_default_verify_paths(ec);
    if (ec) {
        return Error{Errc::config_invalid,
                     fmt::format("the system's certificate store cannot be used: {}; install "
                                 "ca-certificates or set upstream.ca_file",
                                 ec.message())};
    }
    if (options_.ca_file.empty()) return {};
    tls.load_verify_file(options_.ca_file, ec);
    if (!ec) return {};
    return Error{Errc::config_invalid,
                 fmt::format("upstream.ca_file: \"{}\": {}; it must be a readable file of PEM "
                             "certificates",
                             options_.ca_file, ec.message())};
}

void HttpUpstream::set_api_key(std::string key) {
    has_key_ = !key.empty();
    const auto common = fmt::format(
        "Host: {}\r\nUser-Agent: opsrelay/{}\r\nAccept: application/json\r\nX-API-Key: {}\r\n",
        endpoint_.host_header, OPSRELAY_VERSION, key);
    post_head_ =
        fmt::format("POST {} HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: ",
                    endpoint_.target(options_.path), common);
    status_request_ =
        fmt::format("GET {} HTTP/1.1\r\n{}\r\n", endpoint_.target(options_.status_path), common);
}

asio::awaitable<Reply> HttpUpstream::send(std::string_view body, TimePoint deadline) {
    std::string text;
    const fmt::format_int length(body.size());
    text.reserve(post_head_.size() + length.size() + 4 + body.size());
    text += post_head_;
    text.append(length.data(), length.size());
    text += "\r\n\r\n";
    text += body;
    return request(std::move(text), deadline);
}

asio::awaitable<Reply> HttpUpstream::workspace_status(TimePoint deadline) {
    return request(status_request_, deadline);
}

asio::awaitable<Reply> HttpUpstream::request(std::string text, TimePoint deadline) {
    if (!has_key_) co_return failure(Transport::refused, "no API key; nothing was sent");
    auto connection = take_idle();
    if (connection) {
        auto exchange = co_await connection->exchange(text, deadline);
        // The server may have closed it while it was idle. Without a byte of a reply the request is
        // repeated once, at once, on a connection of its own; the id makes that safe.
        const bool stale = exchange.reply.transport == Transport::reset && !exchange.any_reply;
        if (!stale || clock_.now() >= deadline) {
            if (exchange.reusable) give_back(std::move(connection));
            co_return std::move(exchange.reply);
        }
        const auto cancelled = co_await asio::this_coro::cancellation_state;
        if (cancelled.cancelled() != asio::cancellation_type::none) {
            co_return std::move(exchange.reply);
        }
    }
    auto opened = co_await open(deadline);
    if (!opened.connection) co_return std::move(opened.failure);
    auto exchange = co_await opened.connection->exchange(text, deadline);
    if (exchange.reusable) give_back(std::move(opened.connection));
    co_return std::move(exchange.reply);
}

asio::awaitable<HttpUpstream::Opened> HttpUpstream::open(TimePoint deadline) {
    Opened opened;
    const auto generation = generation_;
    auto resolved = co_await resolve(deadline);
    opened.failure = std::move(resolved.failure);
    const auto stop = co_await asio::this_coro::cancellation_state;
    for (std::size_t i = 0; i < resolved.addresses.size(); ++i) {
        if (stop.cancelled() != asio::cancellation_type::none) break;
        const auto now = clock_.now();
        if (now >= deadline) break;
        // A silent address must not use up the time of those after it.
        const auto share =
            (deadline - now) / static_cast<std::int64_t>(resolved.addresses.size() - i);
        auto connection =
            std::make_unique<Connection>(executor_, endpoint_, tls_ ? &*tls_ : nullptr);
        opened.failure = co_await connection->open(resolved.addresses[i], now + share, deadline);
        if (opened.failure.transport != Transport::ok) continue;
        connection->opened_at = clock_.now();
        connection->generation = generation;
        opened.connection = std::move(connection);
        break;
    }
    co_return opened;
}

asio::awaitable<HttpUpstream::Resolved> HttpUpstream::resolve(TimePoint deadline) {
    Resolved resolved;
    resolved.failure = failure(Transport::timeout, "connect: no time left");
    if (endpoint_.numeric) {
        resolved.addresses.emplace_back(asio::ip::make_address(endpoint_.host), endpoint_.port);
        co_return resolved;
    }
    const auto state = std::make_shared<Resolution>(executor_, resolutions_);
    begin(state, endpoint_);
    clock_.arm(state->wake, deadline);
    co_await state->wake.async_wait(nothrow);
    clock_.disarm(state->wake);
    if (!state->done) {
        state->resolver.cancel();
        resolved.failure = failure(Transport::resolve,
                                   fmt::format("resolve {}: no answer in time", endpoint_.host));
    } else if (state->ec || state->addresses.empty()) {
        resolved.failure =
            failure(Transport::resolve,
                    fmt::format("resolve {}: {}", endpoint_.host,
                                state->ec ? state->ec.message() : "the name has no address"));
    } else {
        resolved.addresses = state->addresses;
    }
    co_return resolved;
}

bool HttpUpstream::expired(const Connection& connection) const {
    const auto now = clock_.now();
    return connection.generation != generation_ ||
           now - connection.opened_at >= kConnectionAgeMax ||
           now - connection.used_at >= kConnectionIdleMax;
}

std::unique_ptr<Connection> HttpUpstream::take_idle() {
    while (!idle_.empty()) {
        auto connection = std::move(idle_.back());
        idle_.pop_back();
        if (!expired(*connection)) return connection;
    }
    return nullptr;
}

void HttpUpstream::give_back(std::unique_ptr<Connection> connection) {
    connection->used_at = clock_.now();
    if (expired(*connection) || idle_.size() >= options_.connections) return;
    idle_.push_back(std::move(connection));
}

void HttpUpstream::tend_connections(bool rebuild) {
    if (rebuild) ++generation_;
    std::erase_if(idle_, [this](const auto& connection) { return expired(*connection); });
}

}  // namespace opsrelay::forward
