#include "listen/http_session.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "core/nothrow.h"
#include "listen/http_answer.h"
#include "listen/http_rules.h"
#include "listen/input_room.h"
#include "listen/linger.h"
#include "listen/ready_fd.h"

namespace opsrelay::listen {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;

using Parser = http::request_parser<http::string_body>;

constexpr std::size_t kReadBytes = 16U << 10U;
constexpr std::size_t kStepsPerTurn = 16;  // then the other connections get a turn
constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

std::string_view view(beast::string_view text) noexcept { return {text.data(), text.size()}; }

class HttpSession {
public:
    HttpSession(UniqueFd connection, ListenerState& state, const asio::any_io_executor& ingest,
                std::span<char> scratch)
        : state_(state),
          ingest_(ingest),
          scratch_(scratch.first(std::min(scratch.size(), kReadBytes))),
          answer_(state, ingest, key_of_connection(connection.get())),
          place_(state.input_room, {}),
          socket_(ingest, std::move(connection)) {}

    HttpSession(const HttpSession&) = delete;
    HttpSession& operator=(const HttpSession&) = delete;

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
    asio::awaitable<std::optional<ReadEnd>> make_room(TimePoint due);
    [[nodiscard]] std::optional<ReadEnd> parse();
    void refuse_for_memory();
    [[nodiscard]] bool is_batch() const noexcept {
        return body_begun_ && route_.target == HttpTarget::batch;
    }
    asio::awaitable<bool> continue_if_expected(TimePoint due);
    asio::awaitable<HttpReply> answer(ReadEnd end);
    [[nodiscard]] std::optional<ReadEnd> begin_body();
    /// Why the head is not acceptable; else the request has its lane, whatever a reload does.
    [[nodiscard]] std::optional<HttpReply> judge_head();
    asio::awaitable<bool> write(const HttpReply& reply, bool keep_alive);
    [[nodiscard]] bool turn_is_over() noexcept;
    [[nodiscard]] HttpHead head() const;
    [[nodiscard]] HttpRequest request() const;
    [[nodiscard]] std::optional<std::string_view> field(http::field name) const;
    [[nodiscard]] std::optional<std::string_view> text_field(std::string_view name) const;
    [[nodiscard]] asio::awaitable<bool> stopping();

    ListenerState& state_;
    asio::any_io_executor ingest_;
    std::span<char> scratch_;
    HttpAnswer answer_;
    InputRoom::Place place_;  // of the request in hand
    std::size_t taken_ = 0;   // its bytes
    ReadyFd socket_;
    std::optional<Parser> parser_;
    std::string input_;  // received, not yet parsed: an incomplete head, or pipelined requests
    std::optional<HttpReply> refusal_;
    HttpRoute route_;
    Origin origin_;  // of the events in hand
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
            if (!complete)
                co_await linger(socket_, state_, scratch_, state_.options.http_body_max.count);
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
    (void)answer_.hold({});
    route_ = {};
    body_begun_ = continued_ = false;
    if (input_.empty()) std::string().swap(input_);  // its capacity would stay while nothing comes
    taken_ = input_.size();
    place_.note(0);
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
        if (const auto refused = co_await make_room(due)) co_return *refused;
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
        const bool freely = is_batch() || place_.may_grow();
        const auto room = freely ? scratch_ : scratch_.first(InputRoom::kSmallBytes);
        const auto got = socket_.receive(room);
        if (got.state == Transfer::State::done) {
            input_.append(room.data(), got.bytes);
            taken_ += got.bytes;
            place_.note(is_batch() ? 0 : taken_);
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

// Waits for the place of a large request; a value when there is none in time. Batches have a bound
// of their own.
asio::awaitable<std::optional<HttpSession::ReadEnd>> HttpSession::make_room(TimePoint due) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (!is_batch() && place_.missing()) {
        if (is_terminal(stop)) co_return ReadEnd::closed;
        if (state_.clock.now() >= due) {
            refuse_for_memory();
            co_return ReadEnd::refused;
        }
        co_await place_.wait(due);
    }
    co_return std::nullopt;
}

void HttpSession::refuse_for_memory() {
    refusal_ = error_reply(503, "memory_full", "", "not accepted; send it again");
    refusal_->retry_after = 1;
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
    if (route_.target == HttpTarget::batch && body_begun_ &&
        !answer_.hold({parser_->get().body().size()})) {
        refuse_for_memory();
        std::string().swap(parser_->get().body());
        (void)answer_.hold({});
    }
    if (parser_->is_done()) return refusal_ ? ReadEnd::refused : ReadEnd::complete;
    if (refusal_) return ReadEnd::refused;  // its body would only be thrown away
    return std::nullopt;
}

// The head is there, and nothing of the body was looked at.
std::optional<HttpSession::ReadEnd> HttpSession::begin_body() {
    refusal_ = judge_head();
    if (refusal_) return std::nullopt;
    parser_->eager(true);
    if (route_.target == HttpTarget::batch) return std::nullopt;
    const auto limit = std::min(state_.options.http_body_max, kEventBytesMax).count;
    const auto length = parser_->content_length();
    if (length && *length > limit) return ReadEnd::body_too_large;
    parser_->body_limit(limit);
    return std::nullopt;
}

std::optional<HttpReply> HttpSession::judge_head() {
    route_ = route_of(view(parser_->get().target()));
    if (auto refused = refusal(head())) return refused;
    origin_ = state_.origin;
    if (const auto* const lane = lane_of(route_, state_.options.lanes)) origin_.lane = lane->lane;
    return std::nullopt;
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
        case ReadEnd::complete: {
            const auto whole = request();
            co_return co_await answer_.take(whole);
        }
        case ReadEnd::refused: co_return std::move(*refusal_);
        case ReadEnd::closed: break;
        case ReadEnd::too_slow:
            co_return error_reply(408, "timed_out", "", "the request did not arrive in time");
        case ReadEnd::malformed: break;
        case ReadEnd::head_too_large:
            co_return error_reply(431, "header_too_large", "", "the request's header is too long");
        case ReadEnd::body_too_large: {
            if (auto refused = judge_head()) co_return std::move(*refused);
            co_return answer_.refuse_too_large(request());
        }
    }
    co_return error_reply(400, "bad_request", "", "the request is not valid HTTP/1.1");
}

asio::awaitable<bool> HttpSession::write(const HttpReply& reply, bool keep_alive) {
    const bool head_only = parser_->is_header_done() && parser_->get().method() == http::verb::head;
    const auto bytes = serialize(reply, keep_alive, head_only);
    co_return co_await socket_.send_all(bytes, state_.clock,
                                        state_.clock.now() + state_.options.http_read_timeout);
}

HttpHead HttpSession::head() const {
    const auto& request = parser_->get();
    HttpHead head;
    head.method = view(request.method_string());
    head.route = route_;
    head.host = field(http::field::host);
    head.origin = field(http::field::origin);
    head.content_type = field(http::field::content_type);
    head.content_encoding = field(http::field::content_encoding);
    head.allowed_hosts = state_.options.http_allowed_hosts;
    head.any_host = state_.address.starts_with('/') || state_.tokens;
    head.authorized = !state_.tokens || state_.tokens->admits(field(http::field::authorization),
                                                              text_field("X-API-Key"));
    head.lanes = state_.options.lanes;
    return head;
}

HttpRequest HttpSession::request() const {
    const std::string_view body = parser_->get().body();
    std::uint64_t length = body.size();
    // The parser does not tell when it refuses the body for it.
    if (const auto told = field(http::field::content_length)) {
        (void)std::from_chars(told->data(), told->data() + told->size(), length);
    }
    return {route_.target,
            origin_,
            body,
            length,
            field(http::field::content_type),
            field(http::field::content_encoding)};
}

std::optional<std::string_view> HttpSession::field(http::field name) const {
    const auto found = parser_->get().find(name);
    if (found == parser_->get().end()) return std::nullopt;
    return view(found->value());
}

std::optional<std::string_view> HttpSession::text_field(std::string_view name) const {
    const auto found = parser_->get().find(beast::string_view(name.data(), name.size()));
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

void refuse_http(int connection, Refusal why) noexcept {
    try {
        auto reply = error_reply(503, "too_many_connections", "", "close idle connections");
        reply.retry_after = 1;
        if (why == Refusal::not_allowed) {
            reply = error_reply(403, "peer_not_allowed", "",
                                "this user is in neither allow_uids nor allow_gids");
        }
        const auto bytes = serialize(reply, false, false);
        (void)::send(connection, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } catch (const std::exception&) {  // out of memory: the peer learns it from the close
        return;
    }
}

}  // namespace opsrelay::listen
