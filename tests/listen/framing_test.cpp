#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "listen/ack_tracker.h"
#include "listen/control_line.h"
#include "listen/http_rules.h"
#include "listen/line_framer.h"

using namespace opsrelay;
using namespace opsrelay::listen;

namespace {

// Lines as "text" or "!text" when oversize.
std::vector<std::string> frame(LineFramer& framer, const std::vector<std::string>& chunks,
                               bool finish) {
    std::vector<std::string> lines;
    const auto take = [&lines](const Message& line) {
        lines.push_back(line.oversize
                            ? "!" + std::string(line.bytes) + " of " + std::to_string(line.length)
                            : std::string(line.bytes));
    };
    for (const auto& chunk : chunks) {
        framer.feed(chunk);
        while (const auto line = framer.next()) take(*line);
    }
    if (finish) {
        if (const auto line = framer.finish()) take(*line);
    }
    return lines;
}

}  // namespace

TEST_CASE("listen/line_framer: lines are cut at newlines however the bytes arrive") {
    struct Case {
        const char* name;
        std::vector<std::string> chunks;
        std::vector<std::string> lines;
    };
    const Case cases[] = {
        {"one chunk", {"a\nb\n"}, {"a", "b"}},
        {"byte by byte", {"a", "b", "\n", "c", "\n"}, {"ab", "c"}},
        {"CR is dropped", {"a\r\nb\r", "\n"}, {"a", "b"}},
        {"CR inside stays", {"a\rb\n"}, {"a\rb"}},
        {"blank lines are skipped", {"\n\r\n \t\na\n\n"}, {"a"}},
        {"last line without newline", {"a\nb"}, {"a", "b"}},
        {"last line without newline, with CR", {"a\nb\r"}, {"a", "b"}},
        {"blank last line", {"a\n  "}, {"a"}},
        {"line at the limit", {"12345678\n"}, {"12345678"}},
        {"line at the limit with CR", {"12345678\r\n"}, {"12345678"}},
        {"line at the limit in pieces with CR", {"1234", "5678\r", "\nz\n"}, {"12345678", "z"}},
        {"line over the limit", {"123456789\nz\n"}, {"!12345678 of 9", "z"}},
        {"over the limit in pieces", {"1234", "56789", "abc", "def\nz\n"}, {"!12345678 of 9", "z"}},
        {"over the limit by its last piece", {"1234567", "8901\r\nz\n"}, {"!12345678 of 11", "z"}},
        {"over the limit, CR inside", {"12345678\r", "9\nz\n"}, {"!12345678 of 10", "z"}},
        {"over the limit at the end", {"123456789abc"}, {"!12345678 of 12"}},
        {"two overlong lines", {"123456789\n123456789\n"}, {"!12345678 of 9", "!12345678 of 9"}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        LineFramer framer(8);
        CHECK(frame(framer, test.chunks, true) == test.lines);
    }
}

TEST_CASE("listen/line_framer: a line of any length needs bounded memory and is one message") {
    LineFramer framer(64U << 10U);
    const std::string chunk(64U << 10U, 'x');
    std::size_t messages = 0;
    std::size_t held_max = 0;
    for (int i = 0; i < 16'384; ++i) {  // 1 GiB
        framer.feed(chunk);
        while (framer.next()) ++messages;
        held_max = std::max(held_max, framer.held_bytes());
    }
    CHECK(messages == 1);
    CHECK(held_max <= 4 * chunk.size());
    CHECK(frame(framer, {"rest\nnext\n"}, false) == std::vector<std::string>{"next"});
    CHECK(framer.held_bytes() < 8192);
}

TEST_CASE("listen/control_line: only a line that says exactly this is a control line") {
    using Kind = ControlLine::Kind;
    struct Case {
        const char* name;
        const char* line;
        std::optional<Kind> kind;
        std::uint64_t dropped;
    };
    const Case cases[] = {
        {"acks on", R"({"opsrelay":{"acks":true}})", Kind::acks_on, 0},
        {"white space", "{ \"opsrelay\" : { \"acks\" :true } }\r", Kind::acks_on, 0},
        {"acks off", R"({"opsrelay":{"acks":false}})", Kind::acks_off, 0},
        {"drops", R"({"opsrelay":{"dropped":17}})", Kind::dropped, 17},
        {"no drops", R"({"opsrelay":{"dropped":0}})", Kind::dropped, 0},
        {"leading zeros, so no JSON", R"({"opsrelay":{"dropped":017}})", {}, 0},
        {"drops over 64 bit", R"({"opsrelay":{"dropped":99999999999999999999}})", {}, 0},
        {"negative drops", R"({"opsrelay":{"dropped":-1}})", {}, 0},
        {"more members", R"({"opsrelay":{"acks":true},"provider":"x"})", {}, 0},
        {"bytes after it", R"({"opsrelay":{"acks":true}}x)", {}, 0},
        {"unknown member", R"({"opsrelay":{"ack":true}})", {}, 0},
        {"an event", R"({"provider":"openai"})", {}, 0},
        {"cut off", R"({"opsrelay":{"acks":tr)", {}, 0},
        {"empty", "", {}, 0},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto control = parse_control_line(test.line);
        CHECK(control.has_value() == test.kind.has_value());
        if (control && test.kind) {
            CHECK(control->kind == *test.kind);
            CHECK(control->dropped == test.dropped);
        }
    }
}

TEST_CASE("listen/ack_tracker: counts advance in line order only") {
    AckTracker tracker;
    tracker.add_rejected();  // nothing before it: at once
    CHECK(tracker.counts() == AckCounts{0, 1});
    tracker.add_waiting(5);
    tracker.add_rejected();
    tracker.add_waiting(6);
    tracker.add_waiting(0);  // a duplicate that is durable, behind lines that are not
    CHECK(tracker.counts() == AckCounts{0, 1});
    CHECK(tracker.front() == 5);
    CHECK_FALSE(tracker.settle(4));
    CHECK(tracker.settle(5));
    CHECK(tracker.counts() == AckCounts{1, 2});
    CHECK(tracker.front() == 6);
    CHECK(tracker.settle(6));
    CHECK(tracker.counts() == AckCounts{3, 2});
    CHECK_FALSE(tracker.front().has_value());
    tracker.add_waiting(3);  // known to be durable
    CHECK(tracker.counts() == AckCounts{4, 2});
    CHECK(tracker.waiting_lines() == 0);
}

TEST_CASE("listen/ack_tracker: confirming one position says nothing about others") {
    AckTracker tracker;
    tracker.add_waiting(9);
    tracker.add_waiting(4);  // a duplicate of another connection's event, given up meanwhile
    tracker.add_waiting(9);
    CHECK(tracker.confirm(9));
    CHECK(tracker.counts() == AckCounts{1, 0});
    CHECK(tracker.front() == 4);
    CHECK_FALSE(tracker.confirm(9));
    CHECK(tracker.confirm(4));
    CHECK(tracker.front() == 9);
}

TEST_CASE("listen/ack_tracker: lines are kept as runs and both bounds end its capacity") {
    AckTracker tracker;
    for (Position p = 1; p < AckTracker::kLinesMax; ++p) tracker.add_waiting(p);
    CHECK(tracker.waiting_runs() == 1);
    CHECK(tracker.has_capacity());
    tracker.add_waiting(AckTracker::kLinesMax);
    CHECK_FALSE(tracker.has_capacity());
    CHECK(tracker.settle(100));
    CHECK(tracker.counts().durable == 100);
    CHECK(tracker.front() == 101);
    CHECK(tracker.has_capacity());

    AckTracker mixed;
    for (Position p = 1; mixed.has_capacity(); ++p) {
        mixed.add_waiting(p);
        mixed.add_rejected();
    }
    CHECK(mixed.waiting_runs() == AckTracker::kRunsMax);
    AckTracker same;
    for (int i = 0; i < 1000; ++i) same.add_waiting(7);
    CHECK(same.waiting_runs() == 1);
    CHECK(same.settle(7));
    CHECK(same.counts().durable == 1000);
}

TEST_CASE("listen/http_rules: a request's head is refused for the first thing that is wrong") {
    struct Case {
        const char* name;
        HttpHead head;
        int status;  // 0: accepted
    };
    const std::vector<std::string> hosts{"a", "relay"};
    HttpHead good;
    good.method = "POST";
    good.route = route_of("/v1/ingest/llm-request");
    good.host = "localhost";
    good.content_type = "application/json";
    const auto with = [&good](auto change) {
        auto head = good;
        change(head);
        return head;
    };
    const Case cases[] = {
        {"good", good, 0},
        {"prefix", with([](auto& h) { h.route = route_of("/relay/v1/ingest/llm-request"); }), 0},
        {"slashes", with([](auto& h) { h.route = route_of("//v1//ingest/llm-request/?a=1"); }), 0},
        {"host with port", with([](auto& h) { h.host = "127.0.0.1:8710"; }), 0},
        {"charset", with([](auto& h) { h.content_type = "Application/JSON; charset=utf-8"; }), 0},
        {"no content type", with([](auto& h) { h.content_type.reset(); }), 0},
        {"local origin", with([](auto& h) { h.origin = "http://localhost:3000"; }), 0},
        {"identity", with([](auto& h) { h.content_encoding = "identity"; }), 0},
        {"no host", with([](auto& h) { h.host.reset(); }), 400},
        {"no host, Unix", with([](auto& h) { h.host.reset(), h.any_host = true; }), 0},
        {"any host, Unix", with([](auto& h) { h.host = "relay", h.any_host = true; }), 0},
        {"allowed host", with([&](auto& h) { h.host = "relay:1", h.allowed_hosts = hosts; }), 0},
        {"not allowed", with([&](auto& h) { h.host = "b", h.allowed_hosts = hosts; }), 403},
        {"foreign host", with([](auto& h) { h.host = "evil.example"; }), 403},
        {"foreign origin", with([](auto& h) { h.origin = "https://evil.example"; }), 403},
        {"no token", with([](auto& h) { h.authorized = false; }), 401},
        {"unknown path", with([](auto& h) { h.route = route_of("/v2/ingest"); }), 404},
        {"path beyond", with([](auto& h) { h.route = route_of("/v1/ingest/llm-request/x"); }), 404},
        {"GET", with([](auto& h) { h.method = "GET"; }), 405},
        {"text", with([](auto& h) { h.content_type = "text/plain"; }), 415},
        {"gzip", with([](auto& h) { h.content_encoding = "gzip"; }), 415},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto refused = refusal(test.head);
        CHECK((refused ? refused->status : 0) == test.status);
        CHECK((refused && refused->allow == "POST") == (test.status == 405));
    }
}

TEST_CASE("listen/http_rules: texts from outside are escaped in replies") {
    CHECK(error_reply(400, "bad_id", "a\"b", "x\n\\").body ==
          R"({"ok":false,"reason":"bad_id","errors":[{"field":"a\"b","message":"x\u000a\\"}],)"
          R"("warnings":[]})");
}

TEST_CASE("listen/http_rules: a reply to HEAD has the header of the body it leaves out") {
    const auto reply = error_reply(405, "method_not_allowed", "", "use POST");
    const auto full = serialize(reply, true, false);
    const auto head = serialize(reply, true, true);
    CHECK(full == head + reply.body);
    CHECK(head.ends_with("\r\n\r\n"));
}
