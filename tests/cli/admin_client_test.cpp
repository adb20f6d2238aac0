#include "cli/admin_client.h"

#include <doctest/doctest.h>

#include "cli/fake_server.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;
using namespace std::chrono_literals;

TEST_CASE("cli/admin_client: replies, whole and broken") {
    struct Case {
        const char* name;
        std::string bytes;
        int status;  // 0: an error
        const char* text;
    };
    const Case cases[] = {
        {"with length", http_reply(200, "{}"), 200, "{}"},
        {"not ready", http_reply(503, "no"), 503, "no"},
        {"until the end", "HTTP/1.1 200 OK\r\n\r\nbody", 200, "body"},
        {"length in other case", "HTTP/1.0 200 OK\r\nCONTENT-LENGTH:  2 \r\n\r\nabc", 200, "ab"},
        {"empty", http_reply(200, ""), 200, ""},
        {"nothing", "", 0, "it is cut short"},
        {"cut short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 0, "it is cut short"},
        {"not HTTP", "SSH-2.0-x\r\n\r\n", 0, "it has no HTTP status line"},
        {"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0,
         "it is sent in chunks"},
        {"bad length", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0,
         "it has a broken Content-Length"},
        {"endless header", "HTTP/1.1 200 OK\r\nX: " + std::string(40'000, 'x'), 0,
         "its header is too long"},
    };
    const SystemClock clock;
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const test::TempDir dir;
        FakeServer server(dir / "a", {http_answer(test.bytes)});
        const auto reply = http_get({dir / "a", {}, 0}, "/status", clock, clock.now() + 10s);
        server.join();
        CHECK(reply.has_value() == (test.status != 0));
        if (reply) {
            CHECK(reply->status == test.status);
            CHECK(reply->body == test.text);
        } else {
            CHECK(reply.error().context.find(test.text) != std::string::npos);
        }
    }
}

TEST_CASE("cli/admin_client: an unreachable target is named") {
    const test::TempDir dir;
    const SystemClock clock;
    const auto absent = http_get({dir / "none", {}, 0}, "/", clock, clock.now() + 10s);
    REQUIRE_FALSE(absent.has_value());
    CHECK(absent.error().context == "connect " + (dir / "none") + ": No such file or directory");
    const auto longer = http_get({std::string(200, 'x'), {}, 0}, "/", clock, clock.now() + 10s);
    REQUIRE_FALSE(longer.has_value());
    CHECK(longer.error().context.find("a socket path may have 107") != std::string::npos);
    const auto name = http_get({{}, "localhost", 1}, "/", clock, clock.now() + 10s);
    CHECK_FALSE(name.has_value());
}

TEST_CASE("cli/admin_client: a daemon that does not answer costs the deadline, no more") {
    const test::TempDir dir;
    FakeServer server(dir / "a", {[](int fd) {
                          while (!read_line(fd).empty()) {
                          }
                      }});
    const SystemClock clock;
    const auto reply = http_get({dir / "a", {}, 0}, "/", clock, clock.now() + 30ms);
    REQUIRE_FALSE(reply.has_value());
    CHECK(reply.error().code == Errc::timed_out);
}
