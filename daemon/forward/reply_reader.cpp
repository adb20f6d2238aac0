#include "forward/reply_reader.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <optional>
#include <string>
#include <utility>

namespace opsrelay::forward {

namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t kFirstBodyBuffer = 1024;
constexpr int kInterimRepliesMax = 8;

std::optional<std::string> header(const http::fields& fields, http::field name) {
    const auto found = fields.find(name);
    if (found == fields.end()) return std::nullopt;
    return std::string(found->value());
}

}  // namespace

struct ReplyReader::Impl {
    using Parser = http::response_parser<http::buffer_body>;

    void begin_message();
    void take_head();
    void give_room();
    void note_filled();

    std::optional<Parser> parser;
    int interim_replies = 0;
    bool has_head = false;
    bool begun = false;      // a byte was fed
    bool keep_date = false;  // of every reply
    std::size_t filled = 0;
    Reply reply;
};

void ReplyReader::Impl::begin_message() {
    parser.emplace();
    parser->body_limit(boost::none);  // bounded by kReplyBodyMax, without an error
}

void ReplyReader::Impl::take_head() {
    const auto& message = parser->get();
    if (message.result_int() / 100 == 1 && interim_replies < kInterimRepliesMax) {
        ++interim_replies;
        begin_message();
        return;
    }
    has_head = true;
    reply.status = static_cast<int>(message.result_int());
    reply.retry_after = header(message, http::field::retry_after);
    if (reply.retry_after || keep_date) reply.date = header(message, http::field::date);
}

void ReplyReader::Impl::give_room() {
    auto& body = reply.body;
    if (filled == body.size()) {
        body.resize(std::min(std::max(filled * 4, kFirstBodyBuffer), kReplyBodyMax));
    }
    auto& message = parser->get();
    message.body().data = body.data() + filled;
    message.body().size = body.size() - filled;
}

void ReplyReader::Impl::note_filled() { filled = reply.body.size() - parser->get().body().size; }

ReplyReader::ReplyReader() : impl_(std::make_unique<Impl>()) {}

ReplyReader::~ReplyReader() = default;

void ReplyReader::keep_date() noexcept { impl_->keep_date = true; }

void ReplyReader::begin() {
    impl_->begin_message();
    impl_->interim_replies = 0;
    impl_->has_head = false;
    impl_->begun = false;
    impl_->filled = 0;
    impl_->reply = {};
    error_ = {};
}

ReplyReader::State ReplyReader::fail(const error_code& ec) {
    error_ = ec;
    return State::failed;
}

ReplyReader::Progress ReplyReader::feed(std::string_view bytes) {
    auto& parser = impl_->parser;
    std::size_t used = 0;
    impl_->begun = impl_->begun || !bytes.empty();
    for (;;) {
        if (impl_->has_head) {
            if (parser->is_done()) return {State::done, used};
            if (impl_->filled == kReplyBodyMax) {
                impl_->reply.body_cut = true;
                return {State::done, used};
            }
            impl_->give_room();
        }
        if (used == bytes.size()) return {State::more, used};
        error_code ec;
        used += parser->put(asio::buffer(bytes.data() + used, bytes.size() - used), ec);
        if (impl_->has_head) impl_->note_filled();
        if (ec == http::error::need_more) return {State::more, used};
        if (ec && ec != http::error::need_buffer) return {fail(ec), used};
        if (!impl_->has_head && parser->is_header_done()) impl_->take_head();
    }
}

ReplyReader::State ReplyReader::end(bool clean) {
    if (!impl_->begun) return fail(http::error::end_of_stream);
    // Many servers end TLS without close_notify; for a body without a length that is its end.
    if (!clean && !(impl_->has_head && impl_->parser->need_eof())) {
        return fail(http::error::partial_message);
    }
    // Only interim replies or empty lines, of which Beast's parser must not be told the end.
    if (!impl_->parser->got_some()) return fail(http::error::partial_message);
    error_code ec;
    impl_->parser->put_eof(ec);
    return ec ? fail(ec) : State::done;
}

bool ReplyReader::in_body() const noexcept { return impl_->has_head; }

bool ReplyReader::reusable() const {
    return !impl_->reply.body_cut && impl_->parser->is_done() && impl_->parser->keep_alive();
}

Reply ReplyReader::take() {
    impl_->reply.body.resize(impl_->filled);
    return std::move(impl_->reply);
}

}  // namespace opsrelay::forward
