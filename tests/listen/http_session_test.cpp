#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "listen/http_world.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

TEST_CASE("listen/http_session: a durable event is answered with upstream's fields") {
    for (const bool unix_socket : {false, true}) {
        CAPTURE(unix_socket);
        HttpWorld world(unix_socket);
        world.start();
        auto client = world.connect();
        const auto reply = exchange(world, client, request("{\"a\":1}"));
        CHECK(status_of(reply) == 200);
        CHECK(has(reply, "\r\nContent-Type: application/json\r\n"));
        CHECK(body_of(reply) ==
              R"({"ok":true,"externalRequestId":"id-1","reason":null,"telemetryPaused":false,)"
              R"("providerCallsContinue":true,"isPlanLimitReached":false,"budgetWarning":false,)"
              R"("budgetExceeded":false,"planTier":null,"warnings":[]})");
        CHECK(world.inlet.texts() == std::vector<std::string>{"{\"a\":1}"});
        CHECK(world.inlet.recorded[0].origin.kind == ListenerKind::http);
    }
}

TEST_CASE("listen/http_session: the state upstream last told shows in the reply") {
    HttpWorld world;
    world.plans.of(kDefaultLane).set({"Starter", true, true, true, true});
    world.start();
    auto client = world.connect();
    const auto reply = exchange(world, client, request("{}"));
    for (const char* part : {R"("telemetryPaused":true)", R"("isPlanLimitReached":true)",
                             R"("budgetWarning":true)", R"("budgetExceeded":true)",
                             R"("planTier":"Starter")", R"("providerCallsContinue":true)"}) {
        CAPTURE(part);
        CHECK(has(reply, part));
    }
}

TEST_CASE("listen/http_session: each end of an event has its status") {
    struct Case {
        const char* name;
        std::string bytes;
        int status;
        const char* part;
        bool keep_alive;
    };
    const std::string big(kEventBytesMax.count + 1, 'x');
    const std::string foreign =
        "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n";
    const Case cases[] = {
        {"accepted", request("{}"), 200, R"("ok":true)", true},
        {"duplicate", request("dup"), 200, R"("duplicate":true)", true},
        {"rejected", request("bad"), 400, R"("reason":"not_json","errors":[{"field":"")", true},
        {"shed", request("shed"), 503, R"("reason":"memory_full")", true},
        {"empty body", request(""), 200, R"("ok":true)", true},
        {"body at the limit", request(big.substr(1)), 200, R"("ok":true)", true},
        {"body too large", request(big), 413, R"("reason":"too_large")", false},
        {"unknown path", request("{}", "", "/nothing"), 404, R"("reason":"not_found")", true},
        {"prefix and slashes", request("{}", "", "//x//v1/ingest/llm-request"), 200, "", true},
        {"GET", request("", "", "/v1/ingest/llm-request", "GET"), 405, "Allow: POST\r\n", true},
        {"foreign host", foreign, 403, R"("reason":"host_not_allowed")", true},
        {"foreign origin", request("{}", "Origin: http://evil.example\r\n"), 403,
         R"("reason":"origin_not_allowed")", true},
        {"gzip", request("{}", "Content-Encoding: gzip\r\n"), 415, R"("ok":false)", true},
        {"close", request("{}", "Connection: close\r\n"), 200, "Connection: close\r\n", false},
        {"not HTTP", "hello\r\n\r\n", 400, R"("reason":"bad_request")", false},
        {"header too long", request("{}", "X: " + std::string(9000, 'x') + "\r\n"), 431,
         R"("ok":false)", false},
        {"chunked",
         "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\n"
         "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         200, R"("ok":true)", true},
        {"bad chunk",
         "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\n"
         "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
         400, R"("ok":false)", false},
        {"chunk extension without end",
         "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\n"
         "Transfer-Encoding: chunked\r\n\r\n1;" +
             std::string(16'384, 'x'),
         400, R"("reason":"bad_request")", false},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        HttpWorld world;
        world.start();
        auto client = world.connect();
        const auto reply = exchange(world, client, test.bytes);
        CHECK(status_of(reply) == test.status);
        CHECK_MESSAGE(has(reply, test.part), reply);
        CHECK(has(reply, "Retry-After: 1\r\n") == (test.status == 503));
        CHECK(body_of(reply).starts_with("{\"ok\":"));
        CHECK(has(reply, "Connection: keep-alive\r\n") == test.keep_alive);
        if (test.keep_alive) {
            CHECK(status_of(exchange(world, client, request("{}"))) == 200);
        } else {
            client.finish();
            world.run_until([&] { return client.closed(); });
        }
    }
}

TEST_CASE(
    "listen/http_session: a body that is too large is one event, and only its limit is kept") {
    HttpWorld world(true);
    world.start();
    auto client = world.connect();
    // Far more than the socket holds: the reply comes while the peer still writes.
    const auto reply = exchange(world, client, request(std::string(900'000, 'x')));
    CHECK(status_of(reply) == 413);
    REQUIRE(world.inlet.recorded.size() == 1);
    CHECK(world.inlet.recorded[0].oversize);
    CHECK(world.inlet.recorded[0].bytes.size() <= kEventBytesMax.count);
    CHECK(world.inlet.recorded[0].length == 900'000);
    CHECK(world.listeners->status()[0].received == 1);
}

TEST_CASE("listen/http_session: not durable in time is 503, and so is given up") {
    HttpWorld world;
    world.inlet.settle_at_once = false;
    world.options.http_ack_timeout = milliseconds{5};
    world.start();
    auto client = world.connect();
    const auto late = exchange(world, client, request("{}"));
    CHECK(status_of(late) == 503);
    CHECK(has(late, R"("reason":"not_confirmed")"));
    CHECK(has(late, R"("externalRequestId":"id-1")"));
    CHECK(has(late, "Retry-After: 1\r\n"));
    world.inlet.give_up(2);
    const auto lost = exchange(world, client, request("{}"));
    CHECK(status_of(lost) == 503);
    CHECK(has(lost, R"("reason":"given_up")"));
}

TEST_CASE("listen/http_session: a reply waits for the commit, a duplicate for the first event's") {
    HttpWorld world;
    world.inlet.settle_at_once = false;
    world.options.http_ack_timeout = seconds{1000};
    world.inlet.decide = [](const Message&) {
        Offered offered;
        offered.admission = Admission::duplicate;
        offered.position = 3;
        return offered;
    };
    world.start();
    auto client = world.connect();
    client.send(world, request("{}"));
    world.run_until([&] { return world.inlet.waiting_for_settlement == 1; });
    client.read();
    CHECK(client.received.empty());
    world.inlet.settle(3);
    world.run_until([&] { return client.read(), has(client.received, "\"duplicate\":true"); });
}

TEST_CASE("listen/http_session: an event that turns out to be a duplicate is answered as one") {
    HttpWorld world;
    world.inlet.strike(2);
    world.start();
    auto client = world.connect();
    for (const bool struck : {false, true, false}) {
        CAPTURE(struck);
        const auto reply = exchange(world, client, request("{}"));
        CHECK(status_of(reply) == 200);
        CHECK(has(reply, "\"duplicate\":true") == struck);
    }
}

TEST_CASE("listen/http_session: pipelined requests are answered in order") {
    HttpWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, request("{}") + request("bad") + request("{}", "Connection: close\r\n"));
    world.run_until([&] { return client.closed(); });
    const auto& all = client.received;
    const auto first = all.find("HTTP/1.1 200");
    const auto second = all.find("HTTP/1.1 400");
    CHECK(first < second);
    CHECK(all.find("HTTP/1.1 200", second) != std::string::npos);
    CHECK(world.inlet.recorded.size() == 3);
}

TEST_CASE("listen/http_session: requests that need no wait give the others their turn") {
    struct Case {
        const char* name;
        std::string one;
    };
    const Case cases[] = {
        {"rejected", request("bad")},
        {"durable duplicate", request("dup")},
        {"unknown path", request("{}", "", "/nothing")},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        HttpWorld world(true);
        world.start();
        auto client = world.connect();
        world.run_until([&] { return world.listeners->connections() == 1; });
        std::string many;
        for (int i = 0; i < 64; ++i) many += test.one;
        REQUIRE(client.try_send(many) == static_cast<long>(many.size()));
        // One handler at a time is at most one turn.
        std::size_t replies = 0;
        while (replies < 64) {
            world.run_one();
            REQUIRE(client.read());
            const auto in_turn = count_of(client.received, "HTTP/1.1 ");
            CHECK(in_turn <= 16);
            replies += in_turn;
            client.received.clear();
        }
        CHECK(replies == 64);
    }
}

TEST_CASE("listen/http_session: a request may come byte by byte and ask before its body") {
    HttpWorld world;
    world.start();
    auto client = world.connect();
    const auto bytes = request("{}", "Expect: 100-continue\r\n");
    for (const char c : bytes.substr(0, bytes.size() - 2)) {
        client.send(world, {&c, 1});
        world.run_ready();
    }
    world.run_until([&] { return client.read(), has(client.received, "100 Continue\r\n\r\n"); });
    CHECK(status_of(exchange(world, client, "{}")) == 200);
}

TEST_CASE("listen/http_session: HTTP/1.0 is answered and closed") {
    HttpWorld world(true);
    world.start();
    auto client = world.connect();
    client.send(world, "POST /v1/ingest/llm-request HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}");
    world.run_until([&] { return client.closed(); });
    CHECK(status_of(client.received) == 200);
}

TEST_CASE("listen/http_session: slow requests and idle connections end at their deadlines") {
    HttpWorld world;
    world.options.http_read_timeout = milliseconds{10};
    world.options.http_idle_timeout = milliseconds{10};
    world.start();
    auto client = world.connect();
    SUBCASE("half a header") {
        client.send(world, "POST /v1/ingest");
        world.run_until([&] { return client.read(), has(client.received, "\r\n\r\n"); });
        CHECK(status_of(client.received) == 408);
    }
    SUBCASE("half a body") {
        client.send(world, request("{\"a\":1}").substr(0, request("{\"a\":1}").size() - 3));
        world.run_until([&] { return client.read(), has(client.received, "\r\n\r\n"); });
        CHECK(status_of(client.received) == 408);
        CHECK(world.inlet.recorded.empty());
    }
    SUBCASE("a byte at a time for ever") {
        world.run_until([&] {
            (void)client.try_send("P");
            client.read();
            return has(client.received, "\r\n\r\n") || client.closed();
        });
    }
    SUBCASE("idle") {
        world.run_until([&] { return client.closed(); });
        CHECK(client.received.empty());
    }
    client.finish();
    world.run_until([&] { return world.listeners->connections() == 0; });
}

TEST_CASE("listen/http_session: a peer that goes away in the middle is no event") {
    HttpWorld world;
    world.start();
    {
        auto client = world.connect();
        client.send(world, request("{\"a\":1}").substr(0, 100));
        world.run_until([&] { return world.listeners->connections() == 1; });
    }
    world.run_until([&] { return world.listeners->connections() == 0; });
    CHECK(world.inlet.recorded.empty());
}

TEST_CASE("listen/http_session: over the connection limit the answer is 503 and the end") {
    HttpWorld world;
    world.options.connections_max = 1;
    world.start();
    auto first = world.connect();
    world.run_until([&] { return world.listeners->connections() == 1; });
    auto second = world.connect();
    world.run_until([&] { return second.closed(); });
    CHECK(status_of(second.received) == 503);
    CHECK(has(second.received, "Retry-After: 1\r\n"));
    CHECK(world.refused() == 1);
    CHECK(status_of(exchange(world, first, request("{}"))) == 200);
}

TEST_CASE("listen/http_session: a stop answers the request in hand and closes idle connections") {
    HttpWorld world;
    world.start();
    auto idle = world.connect();
    auto busy = world.connect();
    world.run_until([&] { return world.listeners->connections() == 2; });
    busy.send(world, request("{}"));
    world.stop(seconds{10});
    CHECK(idle.closed());
    busy.read();
    CHECK(status_of(busy.received) == 200);
    CHECK(has(busy.received, "Connection: close\r\n"));
}

TEST_CASE("listen/http_session: the deadline of a stop ends every wait") {
    HttpWorld world;
    world.inlet.settle_at_once = false;
    world.options.http_ack_timeout = seconds{1000};
    world.options.http_read_timeout = seconds{1000};
    world.start();
    auto client = world.connect();
    SUBCASE("for the commit") {
        client.send(world, request("{}"));
        world.run_until([&] { return world.inlet.waiting_for_settlement == 1; });
    }
    SUBCASE("for the body") {
        client.send(world, request("{\"a\":1}").substr(0, 110));
        world.run_until([&] { return world.listeners->connections() == 1; });
        world.run_ready();
    }
    world.stop(milliseconds{5});
    world.run_until([&] { return client.closed(); });
    CHECK_FALSE(has(client.received, "HTTP/1.1 200"));
}
