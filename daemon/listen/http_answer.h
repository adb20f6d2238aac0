// What a complete request comes to: its events are offered, their commit is waited for, and what
// became of them is the reply.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/units.h"
#include "listen/http_batch.h"
#include "listen/http_rules.h"
#include "listen/listener_state.h"

namespace opsrelay::listen {

/// A request whose head was not refused. The views live as long as it.
struct HttpRequest {
    HttpTarget target = HttpTarget::event;
    Origin origin;  // with the lane that its path names
    std::string_view body;
    std::uint64_t length = 0;  // as announced, else of `body`
    std::optional<std::string_view> content_type;
    std::optional<std::string_view> content_encoding;
};

/// The batches of one listener together may take so many times http.max_body; over it a batch is
/// answered with 503.
inline constexpr std::uint64_t kBatchBodiesMax = 4;

/// Of one connection. An event is answered when it is durable, or with 503 after
/// options.http_ack_timeout. Thread: ingest.
class HttpAnswer {
public:
    HttpAnswer(ListenerState& state, asio::any_io_executor ingest, const PeerKey& peer)
        : state_(state), ingest_(std::move(ingest)), peer_(peer) {}
    HttpAnswer(const HttpAnswer&) = delete;
    HttpAnswer& operator=(const HttpAnswer&) = delete;
    ~HttpAnswer() { (void)hold({}); }

    /// `request` outlives the call.
    [[nodiscard]] asio::awaitable<HttpReply> take(const HttpRequest& request);
    /// 413 to a body over the limit of its path, which counts as one event; `request.body` is what
    /// was kept of it.
    [[nodiscard]] HttpReply refuse_too_large(const HttpRequest& request);

    /// Counts what the batch in hand takes among those of the listener. False: too much; 503.
    [[nodiscard]] bool hold(Bytes bytes) noexcept;

private:
    /// Whether this peer sends more than it may.
    [[nodiscard]] bool over_rate();
    asio::awaitable<HttpReply> take_event(const HttpRequest& request);
    asio::awaitable<HttpReply> take_batch(const HttpRequest& request);
    asio::awaitable<HttpReply> take_items(std::span<const std::string_view> items,
                                          const Origin& origin);
    asio::awaitable<HttpReply> tell_workspace(const HttpRequest& request);
    [[nodiscard]] HttpReply refuse_body(const HttpRequest& request, bool too_large,
                                        std::string_view message);
    [[nodiscard]] std::string too_many_bytes() const;
    asio::awaitable<Settled> settle(Position position);

    ListenerState& state_;
    asio::any_io_executor ingest_;
    const PeerKey peer_;
    Bytes held_;  // of state_.batch_bytes
};

}  // namespace opsrelay::listen
