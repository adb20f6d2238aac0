#include "upstream/server.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/pointer.h>

#include <memory>
#include <string>
#include <vector>

#include "upstream/test_server.h"

namespace opsrelay::upstream {

namespace {

std::int64_t stat(const TestServer& server, const std::string& path) {
    rapidjson::Document stats;
    stats.Parse(call(server.control_port(), "GET", "/stats").body.c_str());
    const auto* value = rapidjson::Pointer(path.c_str()).Get(stats);
    return value == nullptr ? 0 : value->GetInt64();
}

void control(const TestServer& server, std::string_view json) {
    const auto reply = call(server.control_port(), "POST", "/control", json);
    CAPTURE(reply.body);
    REQUIRE(reply.status() == 200);
}

}  // namespace

TEST_CASE("upstream/server: every fault looks on the wire as its name says") {
    struct Case {
        const char* script;
        int status;          // 0: no reply
        const char* header;  // one that must be there
        const char* value;
        const char* body;  // a part of it
        int rows;
    };
    constexpr auto kType = "Content-Type";
    const Case cases[] = {
        {"\"ok\"", 200, kType, "application/json", "\"ok\":true", 1},
        {"\"400\"", 400, kType, "application/json", "validation_failed", 0},
        {"\"401\"", 401, kType, "application/json", "invalid_api_key", 0},
        {"\"402_plan\"", 402, kType, "application/json", "\"isPlanLimitReached\":true", 0},
        {"\"402_budget\"", 402, kType, "application/json", "\"budgetExceeded\":true", 0},
        {R"({"fault":"402_budget","reason":"cap"})", 402, kType, "application/json", "\"cap\"", 0},
        {"\"403\"", 403, kType, "application/json", "forbidden", 0},
        {"\"404\"", 404, kType, "application/json", "not_found", 0},
        {"\"408\"", 408, kType, "application/json", "request_timeout", 0},
        {"\"409\"", 409, kType, "application/json", "duplicate_request", 1},
        {"\"410\"", 410, kType, "application/json", "gone", 0},
        {"\"413\"", 413, kType, "application/json", "payload_too_large", 0},
        {"\"418\"", 418, kType, "application/json", "injected_fault", 0},
        {"\"422\"", 422, kType, "application/json", "validation_failed", 0},
        {"\"425\"", 425, kType, "application/json", "too_early", 0},
        {"\"429\"", 429, "Retry-After", "", "rate_limited", 0},
        {R"({"fault":"429","retry_after":"3"})", 429, "Retry-After", "3", "rate_limited", 0},
        {R"({"fault":"429","retry_after":"soon"})", 429, "Retry-After", "soon", "rate_limited", 0},
        {R"({"fault":"503","retry_after":{"seconds":7}})", 503, "Retry-After", "7", "unavail", 0},
        {R"({"fault":"402_plan","retry_after":"9"})", 402, "Retry-After", "9", "plan_limit", 0},
        {"\"500_html\"", 500, kType, "text/html; charset=utf-8", "<html>", 0},
        {"\"503_empty\"", 503, "Content-Length", "0", "", 0},
        {"\"200_html\"", 200, kType, "text/html; charset=utf-8", "<html>", 0},
        {"\"200_text\"", 200, kType, "text/plain", "OK", 0},
        {R"({"fault":"200_ok_false","reason":"rate_limited"})", 200, kType, "application/json",
         R"({"ok":false,"reason":"rate_limited")", 0},
        {"\"200_empty\"", 200, "Content-Length", "0", "", 1},
        {"\"204\"", 204, "Content-Length", "", "", 1},
        {"\"302\"", 302, "Location", "/elsewhere", "", 0},
        {R"({"fault":"slow_body","ms":1})", 200, kType, "application/json", "\"ok\":true", 1},
        {R"({"fault":"latency","ms":1})", 200, kType, "application/json", "\"ok\":true", 1},
        {"\"close_after\"", 200, "Connection", "close", "\"ok\":true", 1},
    };
    const TestServer server;
    for (const auto& test : cases) {
        CAPTURE(std::string(test.script));
        control(server, fmt::format(R"({{"script":[{}]}})", test.script));
        const auto before = stat(server, "/rows");
        const auto got = ingest(server.port(), "x");
        CHECK(got.status() == test.status);
        CHECK(got.header(test.header) == test.value);
        CHECK(got.header("Date").ends_with(" GMT"));
        CHECK(got.body.find(test.body) != std::string::npos);
        CHECK(got.body.size() == got.promised);
        CHECK(stat(server, "/rows") - before == test.rows);
        CHECK(call(server.control_port(), "DELETE", "/rows").status() == 200);
    }
}

TEST_CASE("upstream/server: faults of the connection") {
    struct Case {
        const char* script;
        bool reset;
        bool closed;
        bool some_body;
        int rows;
    };
    const Case cases[] = {
        {"\"reset_before\"", true, false, false, 0},
        {"\"reset_after_commit\"", true, false, false, 1},
        {R"({"fault":"stall","ms":1})", false, true, false, 0},
        {R"({"fault":"stall_after_commit","ms":1})", false, true, false, 1},
        {"\"truncated_body\"", false, true, true, 1},
    };
    const TestServer server;
    for (const auto& test : cases) {
        CAPTURE(std::string(test.script));
        control(server, fmt::format(R"({{"script":[{}]}})", test.script));
        const auto got = ingest(server.port(), "one");
        CHECK(got.connected);
        CHECK(got.reset == test.reset);
        CHECK(got.closed == test.closed);
        CHECK(got.body.empty() == !test.some_body);
        if (test.some_body) CHECK(got.body.size() < got.promised);
        CHECK(stat(server, "/rows") == test.rows);
        CHECK(ingest(server.port(), "one").status() == 200);
        CHECK(stat(server, "/rows") == 1);
        CHECK(stat(server, "/repeated") == test.rows);
        CHECK(call(server.control_port(), "DELETE", "/rows").status() == 200);
    }
}

TEST_CASE("upstream/server: Retry-After dates count from the reply's own Date") {
    const TestServer server;
    // A server whose clock is wrong is right about itself.
    struct Case {
        const char* form;
        const char* header;
    };
    const Case cases[] = {{"imf_fixdate", "Wed, 29 Apr 2026 11:11:"},
                          {"rfc850", "Wednesday, 29-Apr-26 11:11:"},
                          {"asctime", "Wed Apr 29 11:11:"}};
    for (const auto& test : cases) {
        CAPTURE(std::string(test.form));
        control(server, fmt::format(R"({{"clock":{{"set":"2026-04-29T10:11:00Z"}},"script":[{{)"
                                    R"("fault":"429","retry_after":{{"form":"{}",)"
                                    R"("seconds":3600}}}}]}})",
                                    test.form));
        const auto got = ingest(server.port(), "x");
        CHECK(got.status() == 429);
        CHECK(got.header("Date").starts_with("Wed, 29 Apr 2026 10:11:"));
        CHECK(got.header("Retry-After").starts_with(test.header));
    }
}

TEST_CASE("upstream/server: a slow body and latency keep the rest back") {
    const TestServer server;
    control(server,
            R"({"script":[{"fault":"slow_body","ms":60000},{"fault":"latency","ms":60000}]})");
    TestClient slow(server.port());
    slow.send(request_text("POST", "/v1/ingest/llm-request", event("a")));
    CHECK(slow.read_head().starts_with("HTTP/1.1 200 OK\r\n"));
    TestClient late(server.port());
    late.send(request_text("POST", "/v1/ingest/llm-request", event("b")));
    while (stat(server, "/requests") < 2) {
    }
    // Both requests are processed, others are answered meanwhile, and nothing more has come.
    CHECK(ingest(server.port(), "c").status() == 200);
    CHECK(stat(server, "/rows") == 3);
    CHECK(slow.waiting() == 0);
    CHECK(late.waiting() == 0);
}

TEST_CASE("upstream/server: batches are read up to their own limit") {
    const TestServer server;
    control(server, R"({"batch":{"bytes_max":2000000},"body_bytes_max":1000})");
    const auto lines = event("a") + "\n" + std::string(1'500'000, '\n') + event("b") + "\n";
    constexpr auto kHeaders = "X-API-Key: test\r\nContent-Type: application/x-ndjson\r\n";
    TestClient client(server.port());
    const auto batch = client.exchange(request_text("POST", "/v1/ingest/batch", lines, kHeaders));
    CHECK(batch.status() == 200);
    CHECK(batch.body == R"({"results":[{"index":0,"status":200,"reason":null},)"
                        R"({"index":1,"status":200,"reason":null}]})");
    const auto single = client.exchange(
        request_text("POST", "/v1/ingest/llm-request", event(std::string(1000, 'x'))));
    CHECK(single.status() == 413);
    CHECK(client.exchange(request_text("POST", "/v1/ingest/llm-request", event("c"))).status() ==
          200);  // the connection is still good
    CHECK(stat(server, "/rows") == 3);
    CHECK(stat(server, "/connections/bad_requests") == 0);
}

TEST_CASE("upstream/server: a stall ends when the client goes") {
    const TestServer server;
    control(server, R"({"script":["stall"]})");
    {
        TestClient client(server.port());
        client.send(request_text("POST", "/v1/ingest/llm-request", event("a")));
        while (stat(server, "/requests") == 0) {
        }
        CHECK(stat(server, "/connections/open") == 1);
    }
    // Far less than the minute a stall lasts; the test's own time limit is the judge.
    while (stat(server, "/connections/open") != 0) {
    }
    CHECK(stat(server, "/by_fault/stall") == 1);
}

TEST_CASE("upstream/server: one connection serves many requests") {
    const TestServer server;
    TestClient client(server.port());
    for (int i = 0; i < 20; ++i) {
        const auto got = client.exchange(
            request_text("POST", "/any/prefix/v1/ingest/llm-request", event(std::to_string(i))));
        CHECK(got.status() == 200);
    }
    CHECK(stat(server, "/rows") == 20);
    CHECK(stat(server, "/connections/total") == 1);
    CHECK(stat(server, "/connections/open") == 1);
}

TEST_CASE("upstream/server: 200 connections are open at once, and a limit refuses more") {
    Settings settings;
    settings.connections_max = 200;
    const TestServer server(settings);
    std::vector<std::unique_ptr<TestClient>> clients;
    for (int i = 0; i < 200; ++i) {
        clients.push_back(std::make_unique<TestClient>(server.port()));
        const auto got = clients.back()->exchange(
            request_text("POST", "/v1/ingest/llm-request", event(std::to_string(i))));
        REQUIRE(got.status() == 200);
    }
    CHECK(stat(server, "/connections/open") == 200);
    TestClient refused(server.port());
    const auto got = refused.read_all();
    CHECK((got.closed || got.reset));
    CHECK(stat(server, "/connections/refused") == 1);
}

TEST_CASE("upstream/server: down closes the port and cuts connections, up opens the same port") {
    const TestServer server;
    TestClient client(server.port());
    CHECK(client.exchange(request_text("POST", "/v1/ingest/llm-request", event("a"))).status() ==
          200);
    control(server, R"({"down":true})");
    const auto cut = client.read_all();
    CHECK((cut.reset || cut.closed));
    CHECK_FALSE(TestClient(server.port()).connected());
    {  // nobody is given the port meanwhile
        using boost::asio::ip::tcp;
        boost::asio::io_context context;
        tcp::acceptor thief(context, tcp::v4());
        boost::system::error_code ec;
        thief.bind({boost::asio::ip::address_v4::loopback(), server.port()}, ec);
        CHECK(ec == boost::asio::error::address_in_use);
    }
    control(server, R"({"down":false})");
    CHECK(ingest(server.port(), "b").status() == 200);
    CHECK(stat(server, "/rows") == 2);
}

TEST_CASE("upstream/server: rows are listed whole, as ids, and in part") {
    const TestServer server;
    for (const auto* id : {"a", "b", "c"}) CHECK(ingest(server.port(), id).status() == 200);
    const auto port = server.port();
    CHECK(call(port, "GET", "/rows?ids=1").body == "6\r\na\nb\nc\n\r\n0\r\n\r\n");
    CHECK(call(port, "GET", "/rows?ids=1&offset=1&limit=1").body == "2\r\nb\n\r\n0\r\n\r\n");
    CHECK(call(port, "GET", "/rows?ids=1&offset=9").body == "0\r\n\r\n");
    const auto row = fmt::format("{{\"externalRequestId\":\"c\",\"body\":{}}}\n", event("c"));
    CHECK(call(port, "GET", "/rows?offset=2").body ==
          fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", row.size(), row));
}

TEST_CASE("upstream/server: what is not HTTP or too large gets a reply and a close") {
    const TestServer server;
    {
        TestClient client(server.port());
        const auto got = client.exchange("nonsense\r\n\r\n");
        CHECK(got.status() == 400);
    }
    TestClient client(server.port());
    const auto got = client.exchange(
        "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n");
    CHECK(got.status() == 413);
    CHECK(got.header("Connection") == "close");
    CHECK(stat(server, "/connections/bad_requests") == 2);
}

TEST_CASE("upstream/server: only loopback addresses are bound") {
    asio::io_context io;
    SystemClock clock;
    for (const auto* address : {"0.0.0.0", "192.0.2.1", "nowhere", "::"}) {
        CAPTURE(address);
        Settings settings;
        settings.address = address;
        Server server(io.get_executor(), clock, settings);
        const auto started = server.start();
        REQUIRE(started.has_error());
        CHECK(started.error().code == Errc::config_invalid);
    }
}

}  // namespace opsrelay::upstream
