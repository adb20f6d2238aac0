#include "forward/reply_reader.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

namespace opsrelay::forward {

namespace {

using State = ReplyReader::State;

/// Feeds `bytes` in pieces of `step`, keeping what was not used, as a connection does. What is left
/// over when the reply is done stays in `rest`.
State feed_in_steps(ReplyReader& reader, std::string_view bytes, std::size_t step,
                    std::string& rest) {
    rest.clear();
    while (!bytes.empty()) {
        const auto piece = bytes.substr(0, std::min(step, bytes.size()));
        bytes.remove_prefix(piece.size());
        rest += piece;
        const auto progress = reader.feed(rest);
        rest.erase(0, progress.used);
        if (progress.state != State::more) {
            rest += bytes;
            return progress.state;
        }
    }
    return State::more;
}

}  // namespace

TEST_CASE("forward/reply_reader: the same reply however the bytes are cut") {
    struct Case {
        const char* name;
        std::string bytes;
        State fed;
        State ended;  // after an orderly end, when more was asked for
        std::string body;
        bool reusable;
    };
    const Case cases[] = {
        {"length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", State::done, {}, "{}", true},
        {"no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", State::done, {}, "", true},
        {"204", "HTTP/1.1 204 No Content\r\n\r\n", State::done, {}, "", true},
        {"HTTP/1.0",
         "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
         State::done,
         {},
         "{}",
         false},
        {"chunks",
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nA: "
         "b\r\n\r\n",
         State::done,
         {},
         "{}",
         true},
        {"interim",
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
         State::done,
         {},
         "{}",
         true},
        {"until the end", "HTTP/1.1 200 OK\r\n\r\n{}", State::more, State::done, "{}", false},
        {"cut body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", State::more, State::failed,
         "", false},
        {"cut head", "HTTP/1.1 200 OK\r\nConten", State::more, State::failed, "", false},
        {"interim alone", "HTTP/1.1 100 Continue\r\n\r\n", State::more, State::failed, "", false},
        {"empty lines alone", "\r\n\r\n", State::more, State::failed, "", false},
        {"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", State::more,
         State::failed, "", false},
    };
    for (const auto& test : cases) {
        for (std::size_t step = 1; step <= test.bytes.size(); ++step) {
            CAPTURE(test.name);
            CAPTURE(step);
            ReplyReader reader;
            reader.begin();
            std::string rest;
            auto state = feed_in_steps(reader, test.bytes, step, rest);
            REQUIRE(state == test.fed);
            if (state == State::more) {
                state = reader.end(true);
                REQUIRE(state == test.ended);
            }
            if (state == State::failed) {
                CHECK(reader.error());
                continue;
            }
            CHECK(rest.empty());
            CHECK(reader.reusable() == test.reusable);
            const auto reply = reader.take();
            CHECK(reply.body == test.body);
            CHECK((reply.status == 200 || reply.status == 204));
        }
    }
}

TEST_CASE("forward/reply_reader: one reader reads one reply after the other") {
    ReplyReader reader;
    for (int i = 0; i < 3; ++i) {
        const bool wait = i == 1;
        reader.begin();
        std::string bytes = wait ? "HTTP/1.1 429 X\r\nDate: today\r\nRetry-After: 7\r\n"
                                 : "HTTP/1.1 200 OK\r\nDate: today\r\n";
        bytes += "Content-Length: 1\r\n\r\n";
        bytes += static_cast<char>('a' + i);
        bytes += "left over";
        const auto progress = reader.feed(bytes);
        CHECK(progress.state == State::done);
        CHECK(bytes.substr(progress.used) == "left over");
        const auto reply = reader.take();
        CHECK(reply.status == (wait ? 429 : 200));
        CHECK(reply.retry_after.has_value() == wait);
        CHECK(reply.date.has_value() == wait);
        CHECK(reply.body == std::string(1, static_cast<char>('a' + i)));
    }
}

TEST_CASE("forward/reply_reader: the Date of every reply is kept when it is asked for") {
    ReplyReader reader;
    reader.keep_date();
    for (const bool dated : {true, false}) {
        reader.begin();
        const auto progress =
            reader.feed(std::string("HTTP/1.1 200 OK\r\n") + (dated ? "Date: today\r\n" : "") +
                        "Content-Length: 0\r\n\r\n");
        CHECK(progress.state == State::done);
        CHECK(reader.take().date == (dated ? std::optional<std::string>("today") : std::nullopt));
    }
}

TEST_CASE("forward/reply_reader: what breaks off is a failure, except a body without a length") {
    struct Case {
        const char* name;
        const char* bytes;
        State state;
    };
    const Case cases[] = {
        {"nothing came", "", State::failed},
        {"in the head", "HTTP/1.1 200 OK\r\n", State::failed},
        {"in a body with a length", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
         State::failed},
        {"in a body without one", "HTTP/1.1 200 OK\r\n\r\n{}", State::done},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        ReplyReader reader;
        reader.begin();
        CHECK(reader.feed(test.bytes).state == State::more);
        CHECK(reader.end(false) == test.state);
        CHECK(reader.error().failed() == (test.state == State::failed));
    }
}

TEST_CASE("forward/reply_reader: endless interim replies and endless heads end") {
    ReplyReader reader;
    reader.begin();
    std::string interim;
    for (int i = 0; i < 9; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
    CHECK(reader.feed(interim).state == State::done);
    CHECK(reader.take().status == 100);  // which no verdict takes for a delivery

    reader.begin();
    CHECK(reader.feed("HTTP/1.1 200 OK\r\nA: " + std::string(16U << 10U, 'x')).state ==
          State::failed);
}

}  // namespace opsrelay::forward
