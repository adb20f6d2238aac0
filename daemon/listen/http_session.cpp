#include "listen/http_session.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <boost/beast/http/string_body.hpp>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/nothrow.h"
#include "listen/http_batch.h"
#include "listen/http_rules.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;

using Parser = http::request_parser<http::string_body>;

constexpr std::size_t kReadBytes = 16U << 10U;
constexpr std::size_t kStepsPerTurn = 16;  // then the other connections get a turn
constexpr milliseconds kLinger{1'000};
// The batches of one listener together may take so many times http.max_body; over it a batch is
// answered with 503.
constexpr std::uint64_t kBatchBodiesMax = 4;
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

std::string_view view(beast::string_view text) noexcept { return {text.data(), text.size()}; }

class HttpSession {
public:
    HttpSession(UniqueFd connection, ListenerState& state, const asio::any_io_executor& ingest,
                std::span<char> scratch)
        : state_(state),
          ingest_(ingest),
          scratch_(scratch.first(std::min(scratch.size(), kReadBytes))),
          socket_(ingest, std::move(connection)) {}

    HttpSession(const HttpSession&) = delete;
    HttpSession& operator=(const HttpSession&) = delete;
    ~HttpSession() { hold({}); }

    asio::awaitable<void> run();

private:
    enum class ReadEnd : std::uint8_t {
        complete,
        refused,  // the head is enough to answer: `refusal_`
        closed,   // the peer, an idle deadline or a stop ended the connection between requests
        too_slow,
        malformed,
        head_too_large,
        body_too_large
    };

    asio::awaitable<ReadEnd> read_request();
    asio::awaitable<std::optional<ReadEnd>> read_more(TimePoint due);
    [[nodiscard]] std::optional<ReadEnd> parse();
    asio::awaitable<bool> continue_if_expected(TimePoint due);
    asio::awaitable<HttpReply> answer(ReadEnd end);
    asio::awaitable<HttpReply> take_event();
    asio::awaitable<HttpReply> take_batch();
    asio::awaitable<HttpReply> take_items(std::span<const std::string_view> items);
    [[nodiscard]] std::string too_many_bytes() const;
    [[nodiscard]] HttpReply refuse_body(bool too_large, std::string_view message);
    [[nodiscard]] std::optional<ReadEnd> begin_body();
    /// Counts what the batch in hand takes.
    void hold(Bytes bytes) noexcept;
    asio::awaitable<Settled> settle(Position position);
    asio::awaitable<bool> write(const HttpReply& reply, bool keep_alive);
    asio::awaitable<void> linger();
    [[nodiscard]] bool turn_is_over() noexcept;
    [[nodiscard]] HttpHead head() const;
    [[nodiscard]] std::optional<std::string_view> field(http::field name) const;
    [[nodiscard]] asio::awaitable<bool> stopping();

    ListenerState& state_;
    asio::any_io_executor ingest_;
    std::span<char> scratch_;
    ReadyFd socket_;
    std::optional<Parser> parser_;
    std::string input_;  // received, not yet parsed: an incomplete head, or pipelined requests
    std::optional<HttpReply> refusal_;
    HttpTarget target_ = HttpTarget::unknown;
    Bytes held_;  // of state_.batch_bytes
    bool body_begun_ = false;
    bool continued_ = false;
    std::size_t steps_ = 0;  // reads and requests since the session last waited for its peer
};

asio::awaitable<void> HttpSession::run() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (!is_terminal(stop)) {
        const auto end = co_await read_request();
        if (end == ReadEnd::closed) co_return;
        const auto reply = co_await answer(end);
        // Only after a request that was read to its end is it known where the next one begins.
        const bool complete = parser_->is_done();
        const bool last = co_await stopping();
        const bool keep_alive = complete && parser_->keep_alive() && !last;
        const bool written = co_await write(reply, keep_alive);
        if (!written) co_return;
        if (!keep_alive) {
            if (!complete) co_await linger();
            co_return;
        }
        if (turn_is_over()) co_await asio::post(ingest_, nothrow);
    }
}

// A peer that always has more for us never makes us wait.
bool HttpSession::turn_is_over() noexcept {
    if (++steps_ < kStepsPerTurn) return false;
    steps_ = 0;
    return true;
}

asio::awaitable<HttpSession::ReadEnd> HttpSession::read_request() {
    parser_.emplace();
    parser_->eager(false);  // the limit of a body follows from the head
    parser_->header_limit(static_cast<std::uint32_t>(state_.options.http_header_bytes_max));
    parser_->body_limit(state_.options.http_body_max.count);
    refusal_.reset();
    hold({});
    target_ = HttpTarget::unknown;
    body_begun_ = continued_ = false;
    bool begun = false;
    auto due = state_.clock.now() + state_.options.http_idle_timeout;
    for (;;) {
        if (!input_.empty()) {
            if (!std::exchange(begun, true)) {
                due = state_.clock.now() + state_.options.http_read_timeout;
            }
            if (const auto end = parse()) co_return *end;
            // What the parser leaves is an incomplete line; of a chunk's it knows no limit.
            if (input_.size() > state_.options.http_header_bytes_max) co_return ReadEnd::malformed;
            const bool open = co_await continue_if_expected(due);
            if (!open) co_return ReadEnd::closed;
        }
        const auto end = co_await read_more(due);
        if (end) {
            const bool expired = *end == ReadEnd::too_slow;
            co_return expired && !begun ? ReadEnd::closed : *end;
        }
    }
}

// Adds to `input_`; a value when the connection ends instead.
asio::awaitable<std::optional<HttpSession::ReadEnd>> HttpSession::read_more(TimePoint due) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    for (;;) {
        const auto got = socket_.receive(scratch_);
        if (got.state == Transfer::State::done) {
            input_.append(scratch_.data(), got.bytes);
            if (turn_is_over()) co_await asio::post(ingest_, nothrow);
            // A peer that trickles bytes never waits, so its deadline is looked at here too.
            if (state_.clock.now() < due) co_return std::nullopt;
            co_return ReadEnd::too_slow;
        }
        if (got.state == Transfer::State::ended || is_terminal(stop)) co_return ReadEnd::closed;
        const bool between_requests = !parser_->got_some() && input_.empty();
        const bool last = co_await stopping();
        if (between_requests && last) co_return ReadEnd::closed;
        const auto waited = co_await socket_.readable_until(state_.clock, due);
        if (waited == WaitEnd::timed_out) co_return ReadEnd::too_slow;
        steps_ = 0;
    }
}

// Gives the parser what is there; a value when the request is complete or cannot become so.
std::optional<HttpSession::ReadEnd> HttpSession::parse() {
    bool moved = true;
    while (moved && !input_.empty() && !parser_->is_done()) {
        boost::system::error_code ec;
        const auto used = parser_->put(asio::const_buffer(input_.data(), input_.size()), ec);
        input_.erase(0, used);
        moved = used > 0;
        if (ec == http::error::header_limit) return ReadEnd::head_too_large;
        if (ec == http::error::body_limit) return ReadEnd::body_too_large;
        if (ec && ec != http::error::need_more) return ReadEnd::malformed;
        if (parser_->is_header_done() && !std::exchange(body_begun_, true)) {
            if (const auto end = begin_body()) return end;
        }
    }
    if (target_ == HttpTarget::batch && body_begun_) {
        hold({parser_->get().body().size()});
        if (state_.batch_bytes.count > kBatchBodiesMax * state_.options.http_body_max.count) {
            refusal_ = error_reply(503, "memory_full", "", "not accepted; send it again");
            refusal_->retry_soon = true;
            std::string().swap(parser_->get().body());
            hold({});
        }
    }
    if (parser_->is_done()) return refusal_ ? ReadEnd::refused : ReadEnd::complete;
    if (refusal_) return ReadEnd::refused;  // its body would only be thrown away
    return std::nullopt;
}

// The head is there, and nothing of the body was looked at.
std::optional<HttpSession::ReadEnd> HttpSession::begin_body() {
    refusal_ = refusal(head());
    if (refusal_) return std::nullopt;
    target_ = target_of(view(parser_->get().target()));
    parser_->eager(true);
    if (target_ != HttpTarget::event) return std::nullopt;
    const auto limit = std::min(state_.options.http_body_max, kEventBytesMax).count;
    const auto length = parser_->content_length();
    if (length && *length > limit) return ReadEnd::body_too_large;
    parser_->body_limit(limit);
    return std::nullopt;
}

void HttpSession::hold(Bytes bytes) noexcept {
    state_.batch_bytes = state_.batch_bytes - held_ + bytes;
    held_ = bytes;
}

asio::awaitable<bool> HttpSession::continue_if_expected(TimePoint due) {
    if (continued_ || !parser_->is_header_done()) co_return true;
    const auto expect = field(http::field::expect);
    if (!expect || !beast::iequals(*expect, "100-continue")) co_return true;
    continued_ = true;
    co_return co_await socket_.send_all(kContinue, state_.clock, due);
}

asio::awaitable<HttpReply> HttpSession::answer(ReadEnd end) {
    switch (end) {
        case ReadEnd::complete:
            // Not as one expression: g++ 12 destroys the reply twice.
            if (target_ == HttpTarget::batch) co_return co_await take_batch();
            co_return co_await take_event();
        case ReadEnd::refused: co_return std::move(*refusal_);
        case ReadEnd::closed: break;
        case ReadEnd::too_slow:
            co_return error_reply(408, "timed_out", "", "the request did not arrive in time");
        case ReadEnd::malformed: break;
        case ReadEnd::head_too_large:
            co_return error_reply(431, "header_too_large", "", "the request's header is too long");
        case ReadEnd::body_too_large: {
            if (auto refused = refusal(head())) co_return std::move(*refused);
            const bool batch = target_of(view(parser_->get().target())) == HttpTarget::batch;
            co_return refuse_body(true, batch ? too_many_bytes() : "an event has at most 64 KiB");
        }
    }
    co_return error_reply(400, "bad_request", "", "the request is not valid HTTP/1.1");
}

asio::awaitable<HttpReply> HttpSession::take_event() {
    Burst burst(state_);
    burst.add({parser_->get().body(), false});
    const Offered offered = burst.offer().front();
    auto settled = Settled::durable;
    const bool waits =
        offered.admission == Admission::accepted || offered.admission == Admission::duplicate;
    if (waits && offered.position != 0) settled = co_await settle(offered.position);
    co_return event_reply(offered, settled, state_.plan->get());
}

std::string HttpSession::too_many_bytes() const {
    return fmt::format("a batch has at most {} bytes, unpacked (http.max_body); send several",
                       state_.options.http_body_max.count);
}

// Counted like any event that cannot be read.
HttpReply HttpSession::refuse_body(bool too_large, std::string_view message) {
    Burst burst(state_);
    const std::string_view body = parser_->get().body();
    burst.add({body.substr(0, kEventBytesMax.count), too_large});
    (void)burst.offer();
    const auto reason = too_large ? RejectReason::too_large : RejectReason::not_json;
    return error_reply(rejection_status(reason), to_string(reason), "", message);
}

asio::awaitable<HttpReply> HttpSession::take_batch() {
    const auto form = batch_form(field(http::field::content_type).value_or("application/json"));
    std::string_view body = parser_->get().body();
    Unpacked unpacked;
    if (is_gzip(field(http::field::content_encoding).value_or(""))) {
        unpacked = gunzip(body, state_.options.http_body_max);
        if (unpacked.state == Unpacked::State::too_large) {
            co_return refuse_body(true, too_many_bytes());
        }
        if (unpacked.state == Unpacked::State::damaged) {
            co_return refuse_body(false,
                                  "Content-Encoding is gzip, and the body cannot be unpacked");
        }
        body = unpacked.bytes;
        hold({parser_->get().body().size() + body.size()});
    }
    const auto items = split_batch(form.value_or(BatchForm::array), body);
    if (!items) {
        co_return refuse_body(false,
                              "must be a JSON array; one event a line is "
                              "Content-Type: application/x-ndjson");
    }
    if (items->size() > kBatchEventsMax) {
        co_return refuse_body(
            true,
            fmt::format("a batch has at most {} events; send them in several", kBatchEventsMax));
    }
    co_return co_await take_items(*items);
}

asio::awaitable<HttpReply> HttpSession::take_items(std::span<const std::string_view> items) {
    std::vector<BatchResult> results;
    results.reserve(items.size());
    Position last = 0;
    Burst burst(state_);
    for (std::size_t i = 0; i < items.size(); ++i) {
        burst.add({items[i], items[i].size() > kEventBytesMax.count});
        const bool end = i + 1 == items.size();
        if (!burst.full() && !end) continue;
        for (const auto& offered : burst.offer()) {
            results.push_back(result_of(offered));
            if (results.back().status == 200) last = std::max(last, offered.position);
        }
        if (!end) co_await asio::post(ingest_, nothrow);
    }
    auto settled = Settled::durable;
    if (last != 0) settled = co_await settle(last);
    co_return batch_reply(results, settled);
}

// A graceful stop ends a wait early, but this request is still answered truthfully.
asio::awaitable<Settled> HttpSession::settle(Position position) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    const auto due = state_.clock.now() + state_.options.http_ack_timeout;
    auto settled = co_await state_.inlet.settled(position, due);
    while (settled == Settled::timed_out && state_.clock.now() < due && !is_terminal(stop)) {
        settled = co_await state_.inlet.settled(position, due);
    }
    co_return settled;
}

asio::awaitable<bool> HttpSession::write(const HttpReply& reply, bool keep_alive) {
    const bool head_only = parser_->is_header_done() && parser_->get().method() == http::verb::head;
    const auto bytes = serialize(reply, keep_alive, head_only);
    co_return co_await socket_.send_all(bytes, state_.clock,
                                        state_.clock.now() + state_.options.http_read_timeout);
}

// Closing a socket with unread input resets it, and the peer would lose our reply (RFC 9112 section
// 9.6): read what still comes, for a while and up to the body limit.
asio::awaitable<void> HttpSession::linger() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    (void)::shutdown(socket_.native(), SHUT_WR);
    const auto due = state_.clock.now() + kLinger;
    std::uint64_t discarded = 0;
    while (stop.cancelled() == asio::cancellation_type::none && !state_.stopping &&
           discarded < state_.options.http_body_max.count) {
        const auto got = socket_.receive(scratch_);
        if (got.state == Transfer::State::ended) co_return;
        if (got.state == Transfer::State::done) {
            discarded += got.bytes;
            if (turn_is_over()) co_await asio::post(ingest_, nothrow);
        } else {
            const auto waited = co_await socket_.readable_until(state_.clock, due);
            if (waited == WaitEnd::timed_out) co_return;
        }
    }
}

HttpHead HttpSession::head() const {
    const auto& request = parser_->get();
    HttpHead head;
    head.method = view(request.method_string());
    head.target = view(request.target());
    head.host = field(http::field::host);
    head.origin = field(http::field::origin);
    head.content_type = field(http::field::content_type);
    head.content_encoding = field(http::field::content_encoding);
    head.unix_socket = state_.address.starts_with('/');
    return head;
}

std::optional<std::string_view> HttpSession::field(http::field name) const {
    const auto found = parser_->get().find(name);
    if (found == parser_->get().end()) return std::nullopt;
    return view(found->value());
}

asio::awaitable<bool> HttpSession::stopping() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    co_return state_.stopping || stop.cancelled() != asio::cancellation_type::none;
}

}  // namespace

asio::awaitable<void> serve_http(UniqueFd connection, ListenerState& state,
                                 asio::any_io_executor ingest, std::span<char> scratch) {
    const int on = 1;  // a reply is one write: it must not wait for more. Fails on Unix sockets
    (void)::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    HttpSession session(std::move(connection), state, ingest, scratch);
    co_await session.run();
}

void refuse_http(int connection) noexcept {
    try {
        auto reply = error_reply(503, "too_many_connections", "", "close idle connections");
        reply.retry_soon = true;
        const auto bytes = serialize(reply, false, false);
        (void)::send(connection, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } catch (const std::exception&) {  // out of memory: the peer learns it from the close
        return;
    }
    (void)::shutdown(connection, SHUT_WR);
    std::array<char, 4096> unread{};  // unread input would turn the close into a reset
    (void)::recv(connection, unread.data(), unread.size(), MSG_DONTWAIT);
}

}  // namespace opsrelay::listen
