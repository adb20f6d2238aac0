#include "forward/http_upstream.h"

#include <fmt/format.h>

#include <boost/asio/this_coro.hpp>
#include <utility>

#include "forward/batch_body.h"

namespace opsrelay::forward {

namespace {

// A shorter key may be a word of the reply's own, and is no secret either.
constexpr std::size_t kHiddenKeyMin = 8;

// A server that tells the key back must not bring it into dead letters, which are on disk, nor into
// the plan's fields, which are shown.
void hide(std::string_view key, std::string& body) {
    if (key.size() < kHiddenKeyMin) return;
    for (auto at = body.find(key); at != std::string::npos; at = body.find(key, at)) {
        body.replace(at, key.size(), "***");
        at += 3;
    }
}

}  // namespace

HttpUpstream::HttpUpstream(Clock& clock, const Options& options,
                           std::unique_ptr<Connector> connector)
    : clock_(clock), options_(options), connector_(std::move(connector)) {}

Result<std::unique_ptr<HttpUpstream>> HttpUpstream::make(asio::any_io_executor forward,
                                                         Clock& clock, Resolver& resolver,
                                                         const Options& options) {
    auto connector = Connector::make(std::move(forward), clock, resolver, options);
    if (!connector) return connector.error();
    return std::unique_ptr<HttpUpstream>(new HttpUpstream(clock, options, std::move(*connector)));
}

void HttpUpstream::set_api_key(const Secret& key) {
    key_ = key;
    const auto common = fmt::format(
        "Host: {}\r\nUser-Agent: opsrelay/{}\r\nAccept: application/json\r\nX-API-Key: ",
        endpoint().host_header, OPSRELAY_VERSION);
    const auto content = options_.kind == UpstreamKind::batch
                             ? batch_headers(options_.batch.format, options_.batch.coding)
                             : std::string("Content-Type: application/json\r\n");
    post_head_ = Secret{"POST ",         endpoint().target(options_.target_path()),
                        " HTTP/1.1\r\n", common,
                        key.view(),      "\r\n",
                        content,         "Content-Length: "};
    status_request_ = Secret{"GET ",          endpoint().target(options_.status_path),
                             " HTTP/1.1\r\n", common,
                             key.view(),      "\r\n\r\n"};
}

asio::awaitable<Reply> HttpUpstream::send(std::string_view body, TimePoint deadline) {
    return post(body, deadline);
}

asio::awaitable<Reply> HttpUpstream::send_batch(std::span<const std::string_view> events,
                                                TimePoint deadline) {
    return post(encode_batch(events, options_.batch.format, options_.batch.coding), deadline);
}

asio::awaitable<Reply> HttpUpstream::post(std::string_view body, TimePoint deadline) {
    const fmt::format_int length(body.size());
    return request(Secret{post_head_.view(), {length.data(), length.size()}, "\r\n\r\n", body},
                   deadline);
}

asio::awaitable<Reply> HttpUpstream::workspace_status(TimePoint deadline) {
    return request(status_request_, deadline);
}

asio::awaitable<Reply> HttpUpstream::request(Secret text, TimePoint deadline) {
    if (key_.empty()) {
        Reply none;
        none.transport = Transport::refused;
        none.error = "no API key; nothing was sent";
        co_return none;
    }
    const Secret sent = key_;  // it may be replaced meanwhile
    auto reply = co_await exchange(text.view(), deadline);
    hide(sent.view(), reply.body);
    co_return reply;
}

asio::awaitable<Reply> HttpUpstream::exchange(std::string_view text, TimePoint deadline) {
    auto connection = take_idle();
    if (connection) {
        auto exchange = co_await connection->exchange(text, deadline);
        // The server may have closed it while it was idle. Without a byte of a reply the request is
        // repeated once, at once, on a connection of its own; the id makes that safe.
        const bool stale = exchange.reply.transport == Transport::reset && !exchange.any_reply;
        if (!stale || clock_.now() >= deadline) {
            if (exchange.reply.transport == Transport::timeout && !exchange.any_reply) {
                // Whatever lets nothing through any more may do so to the others as well.
                connector_->note_silent(*connection);
                tend_connections(true);
            }
            if (exchange.reusable) give_back(std::move(connection));
            co_return std::move(exchange.reply);
        }
        const auto cancelled = co_await asio::this_coro::cancellation_state;
        if (cancelled.cancelled() != asio::cancellation_type::none) {
            co_return std::move(exchange.reply);
        }
    }
    if (connector_->refresh()) ++generation_;
    const auto generation = generation_;
    auto opened = co_await connector_->open(deadline);
    if (!opened.connection) co_return std::move(opened.failure);
    opened.connection->generation = generation;
    auto exchange = co_await opened.connection->exchange(text, deadline);
    if (exchange.reusable) give_back(std::move(opened.connection));
    co_return std::move(exchange.reply);
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
    const bool outdated = connector_->refresh();
    if (rebuild || outdated) ++generation_;
    std::erase_if(idle_, [this](const auto& connection) { return expired(*connection); });
}

}  // namespace opsrelay::forward
