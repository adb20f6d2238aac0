#include "forward/http_upstream.h"

#include <fmt/format.h>

#include <algorithm>
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

HttpUpstream::HttpUpstream(const asio::any_io_executor& forward, Clock& clock,
                           const Options& options, std::unique_ptr<Connector> connector)
    : clock_(clock),
      options_(options),
      connector_(std::move(connector)),
      depth_(options.pipeline),
      room_(forward, clock) {}

Result<std::unique_ptr<HttpUpstream>> HttpUpstream::make(asio::any_io_executor forward,
                                                         Clock& clock, Resolver& resolver,
                                                         const Options& options) {
    auto connector = Connector::make(forward, clock, resolver, options);
    if (!connector) return connector.error();
    return std::unique_ptr<HttpUpstream>(
        new HttpUpstream(forward, clock, options, std::move(*connector)));
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
                   deadline, Company::any);
}

asio::awaitable<Reply> HttpUpstream::workspace_status(TimePoint deadline) {
    return request(status_request_, deadline, Company::none);
}

asio::awaitable<Reply> HttpUpstream::request(Secret text, TimePoint deadline, Company company) {
    if (key_.empty()) {
        Reply none;
        none.transport = Transport::refused;
        none.error = "no API key; nothing was sent";
        co_return none;
    }
    const Secret sent = key_;  // it may be replaced meanwhile
    auto reply = co_await exchange(text.view(), deadline, company);
    hide(sent.view(), reply.body);
    co_return reply;
}

asio::awaitable<Reply> HttpUpstream::exchange(std::string_view text, TimePoint deadline,
                                              Company company) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const bool alone = company == Company::none;
    bool repeated = false;
    while (true) {
        auto connection = repeated ? nullptr : pick(company);
        const bool kept = connection != nullptr;
        if (!kept && !repeated && !alone && full()) {
            auto ended = co_await wait_for_room(deadline);
            if (ended) co_return std::move(*ended);
            continue;
        }
        Reply failure;
        if (!kept) connection = co_await open(deadline, failure);
        if (!connection) co_return failure;
        const bool together = !alone && depth_.depth() > 1;
        connection->alone = alone;
        auto exchange = co_await connection->exchange(
            text, deadline, together ? Sending::together : Sending::at_once);
        connection->alone = false;
        give_back(connection);
        auto& reply = exchange.reply;
        if (exchange.lost == Lost::behind) reply.transport = Transport::unanswered;
        const auto& end = connection->ended();
        if (kept && end && end->how == ConnectionEnd::How::silent && exchange.lost == Lost::no &&
            !exchange.any_reply) {
            // Whatever lets nothing through any more may do so to the others as well.
            connector_->note_silent(*connection);
            tend_connections(true);
        }
        // The server closed the connection, which may have been idle. Without a byte of a reply the
        // request is repeated once, at once, on a connection of its own; the id makes that safe.
        const bool again = exchange.lost == Lost::next && !repeated && clock_.now() < deadline &&
                           stop.cancelled() == asio::cancellation_type::none;
        if (!again) co_return std::move(reply);
        repeated = true;
    }
}

bool HttpUpstream::full() const {
    if (depth_.depth() == 1) return false;  // each request has one, and there are not more of them
    const auto shared = std::count_if(pool_.begin(), pool_.end(),
                                      [](const auto& connection) { return !connection->alone; });
    return static_cast<std::size_t>(shared) + opening_ >= options_.connections;
}

asio::awaitable<std::optional<Reply>> HttpUpstream::wait_for_room(TimePoint deadline) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto failed = failed_openings_;
    co_await room_.wait_until(deadline);
    const bool cancelled = stop.cancelled() != asio::cancellation_type::none;
    Reply reply;
    if (failed_openings_ != failed || cancelled) {
        reply.transport = Transport::unanswered;
        reply.error = "there is no connection for it; nothing was sent";
    } else if (clock_.now() >= deadline) {
        reply.transport = Transport::timeout;
        reply.error = "no connection had room in time; nothing was sent";
    } else {
        co_return std::nullopt;
    }
    co_return reply;
}

asio::awaitable<std::shared_ptr<Connection>> HttpUpstream::open(TimePoint deadline,
                                                                Reply& failure) {
    if (connector_->refresh()) ++generation_;
    const auto generation = generation_;
    ++opening_;
    auto opened = co_await connector_->open(deadline);
    --opening_;
    room_.notify_all();
    if (!opened.connection) {
        ++failed_openings_;
        failure = std::move(opened.failure);
        co_return nullptr;
    }
    opened.connection->generation = generation;
    opened.connection->used_at = clock_.now();
    co_return pool_.emplace_back(std::move(opened.connection));
}

bool HttpUpstream::expired(const Connection& connection, TimePoint now) const {
    const bool idle = connection.under_way() == 0;
    return connection.generation != generation_ ||
           now - connection.opened_at >= kConnectionAgeMax ||
           (idle && now - connection.used_at >= kConnectionIdleMax);
}

std::shared_ptr<Connection> HttpUpstream::pick(Company company) {
    const auto now = clock_.now();
    std::erase_if(pool_, [&](const auto& connection) { return expired(*connection, now); });
    const std::shared_ptr<Connection>* found = nullptr;
    for (const auto& connection : pool_) {
        const bool proven = connection->answered() > 0;
        const std::size_t room = company == Company::any && proven ? depth_.depth() : 1;
        const auto under_way = connection->under_way();
        if (connection->alone || connection->ended() || under_way >= room) continue;
        const auto* const best = found == nullptr ? nullptr : found->get();
        const bool better = best == nullptr || under_way < best->under_way() ||
                            (under_way == best->under_way() && connection->used_at > best->used_at);
        if (better) found = &connection;
    }
    // Evenly: many on one connection wait for each other.
    if (found == nullptr || ((*found)->under_way() > 0 && !full())) return nullptr;
    return *found;
}

void HttpUpstream::give_back(const std::shared_ptr<Connection>& connection) {
    const auto now = clock_.now();
    connection->used_at = now;
    const auto known = std::find(pool_.begin(), pool_.end(), connection);
    if (known != pool_.end()) {
        const bool idle = connection->under_way() == 0;
        const bool surplus = idle && pool_.size() > options_.connections;
        if (connection->ended()) depth_.note_end(*connection->ended(), now);
        if (connection->ended() || surplus || expired(*connection, now)) pool_.erase(known);
    }
    room_.notify_all();
}

std::size_t HttpUpstream::idle_connections() const noexcept {
    return static_cast<std::size_t>(
        std::count_if(pool_.begin(), pool_.end(),
                      [](const auto& connection) { return connection->under_way() == 0; }));
}

Pipelining HttpUpstream::pipelining() const {
    return {depth_.depth(), depth_.cause(), depth_.retry_at()};
}

void HttpUpstream::tend_connections(bool rebuild) {
    const auto now = clock_.now();
    depth_.note_time(now);
    const bool outdated = connector_->refresh();
    if (rebuild || outdated) ++generation_;
    std::erase_if(pool_, [&](const auto& connection) { return expired(*connection, now); });
}

}  // namespace opsrelay::forward
