#include "forward/http_upstream.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>

#include "core/task_group.h"
#include "forward/name_service.h"
#include "forward/upstream_world.h"

namespace opsrelay::forward {

namespace {

using test::Served;
using World = test::UpstreamWorld;

Served always(std::size_t, const std::string&) { return test::ok(R"({"ok":true})"); }

}  // namespace

TEST_CASE("forward/http_upstream: the request is what the API expects, on one kept connection") {
    World world(always);
    for (int i = 0; i < 3; ++i) {
        const auto reply = world.send(R"({"a":1})");
        CHECK(reply.transport == Transport::ok);
        CHECK(reply.status == 200);
        CHECK(reply.body == R"({"ok":true})");
    }
    CHECK(world.status().status == 200);
    CHECK(world.server.connections() == 1);
    CHECK(world.upstream->idle_connections() == 1);
    const auto& post = world.server.requests()[0];
    CHECK(post.starts_with("POST /v1/ingest/llm-request HTTP/1.1\r\n"));
    CHECK(post.find(fmt::format("Host: 127.0.0.1:{}\r\n", world.server.port())) !=
          std::string::npos);
    CHECK(post.find("\r\nX-API-Key: secret\r\n") != std::string::npos);
    CHECK(post.find("\r\nContent-Type: application/json\r\n") != std::string::npos);
    CHECK(post.find("\r\nUser-Agent: opsrelay/") != std::string::npos);
    CHECK(post.ends_with("\r\nContent-Length: 7\r\n\r\n{\"a\":1}"));
    CHECK(world.server.requests()[3].starts_with("GET /v1/diagnostics/workspace-status HTTP/1.1"));
}

TEST_CASE("forward/http_upstream: replies of every shape") {
    struct Case {
        const char* name;
        Served served;
        Transport transport;
        int status;
        std::string body;
        bool cut;
        std::size_t idle;  // connections kept
    };
    const std::string big(kReplyBodyMax, 'b');
    const Case cases[] = {
        {"chunked",
         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
         Transport::ok,
         200,
         "{}",
         false,
         1},
        {"until close", {"HTTP/1.1 200 OK\r\n\r\n{}", true}, Transport::ok, 200, "{}", false, 0},
        {"no content", {"HTTP/1.1 204 No Content\r\n\r\n"}, Transport::ok, 204, "", false, 1},
        {"asks to close",
         {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", true},
         Transport::ok,
         200,
         "{}",
         false,
         0},
        {"interim replies",
         {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
         Transport::ok,
         200,
         "{}",
         false,
         1},
        {"exactly the bound", test::ok(big), Transport::ok, 200, big, false, 1},
        {"over the bound", test::ok(big + "x"), Transport::ok, 200, big, true, 0},
        {"absurd length, little body",
         {"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n{}", true},
         Transport::reset,
         0,
         "",
         false,
         0},
        {"truncated",
         {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", true},
         Transport::reset,
         0,
         "",
         false,
         0},
        {"half a header", {"HTTP/1.1 200 OK\r\nCont", true}, Transport::reset, 0, "", false, 0},
        {"not HTTP", {"SSH-2.0-OpenSSH_9.2\r\n\r\n", true}, Transport::reset, 0, "", false, 0},
        {"closed at once", {"", true}, Transport::reset, 0, "", false, 0},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world([&](std::size_t, const std::string&) { return test.served; });
        const auto reply = world.send("{}");
        CHECK(reply.transport == test.transport);
        CHECK(reply.status == test.status);
        CHECK((reply.body == test.body));
        CHECK(reply.body_cut == test.cut);
        CHECK(reply.error.empty() == (test.transport == Transport::ok));
        CHECK(world.upstream->idle_connections() == test.idle);
        CHECK(world.server.requests().size() == 1);
    }
}

TEST_CASE("forward/http_upstream: Retry-After and Date are handed on as sent") {
    World world([](std::size_t, const std::string&) {
        return Served{
            "HTTP/1.1 429 X\r\nretry-after: 3\r\nDate: today\r\nContent-Length: 0\r\n\r\n"};
    });
    const auto reply = world.send("{}");
    CHECK(reply.status == 429);
    CHECK(reply.retry_after == "3");
    CHECK(reply.date == "today");
}

TEST_CASE("forward/http_upstream: a reply that tells the key back does not hold it") {
    World world([](std::size_t, const std::string&) {
        return opsrelay::test::ok("<sk-secret> and sk-secretsk-secret, sk-secre");
    });
    world.upstream->set_api_key("sk-secret");
    CHECK(world.send("{}").body == "<***> and ******, sk-secre");
    CHECK(world.status().body == "<***> and ******, sk-secre");
    world.upstream->set_api_key("and");  // a word
    CHECK(world.send("{}").body == "<sk-secret> and sk-secretsk-secret, sk-secre");
}

TEST_CASE("forward/http_upstream: a connection closed while idle costs one silent repeat") {
    World world(always);
    CHECK(world.send("{}").status == 200);
    world.server.close_connections();
    world.run(World::pause(world.clock));
    CHECK(world.send("{}").status == 200);
    CHECK(world.server.connections() == 2);
    CHECK(world.server.requests().size() == 2);
}

TEST_CASE("forward/http_upstream: a fresh connection that breaks is not repeated") {
    World world([](std::size_t index, const std::string&) {
        return index == 0 ? test::ok("{}") : Served{"", true};
    });
    CHECK(world.send("{}").status == 200);
    CHECK(world.send("{}").transport == Transport::reset);
    CHECK(world.server.requests().size() == 3);  // the kept one, then one repeat
}

TEST_CASE("forward/http_upstream: one deadline bounds the whole request") {
    World world([](std::size_t, const std::string&) { return Served{"", false, true}; });
    CHECK(world.send("{}", milliseconds{20}).transport == Transport::timeout);
    CHECK(world.upstream->idle_connections() == 0);
}

TEST_CASE("forward/http_upstream: a later request on the same connection has its own deadline") {
    struct Case {
        const char* name;
        milliseconds first;
        milliseconds second;
    };
    const Case cases[] = {
        {"the timer fires for the first one", milliseconds{500}, milliseconds{550}},
        {"the timer is set for the first one", milliseconds{60'000}, milliseconds{30}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world([](std::size_t index, const std::string&) {
            return index == 0 ? opsrelay::test::ok("{}") : Served{"", false, true};
        });
        CHECK(world.send("{}", test.first).status == 200);
        const auto begin = world.clock.now();
        const auto reply = world.send("{}", test.second);
        CHECK(reply.transport == Transport::timeout);
        CHECK(reply.error == "read reply: no answer in time");
        CHECK(world.clock.now() - begin >= test.second);
        CHECK(world.server.connections() == 1);
    }
}

TEST_CASE("forward/http_upstream: a request can be cancelled") {
    World world([](std::size_t, const std::string&) { return Served{"", false, true}; });
    Reply reply;
    TaskGroup group(world.io.get_executor(), world.clock);
    group.spawn("test",
                World::keep(world.upstream->send("{}", world.clock.now() + hours{1}), reply));
    while (world.server.requests().empty()) world.io.run_one();
    group.cancel(asio::cancellation_type::terminal);
    while (group.size() > 0) world.io.run_one();
    CHECK(reply.transport == Transport::reset);
}

TEST_CASE("forward/http_upstream: refused, unresolvable, without a key") {
    World world(always);
    const auto url = world.options.url;
    world.connect("http://127.0.0.1:1");
    CHECK(world.send("{}").transport == Transport::refused);
    world.connect("http://nobody.localhost.invalid.localhost:1");
    const auto reply = world.send("{}");
    CHECK((reply.transport == Transport::resolve || reply.transport == Transport::refused));
    world.connect(url);
    world.upstream->set_api_key("");
    CHECK(world.send("{}").transport == Transport::refused);
    CHECK(world.server.requests().empty());
}

TEST_CASE("forward/http_upstream: a name server that does not answer costs the deadline") {
    test::SilentResolver silence;
    World world(always);
    world.connect("https://opsmeter.silent");
    const auto reply = world.send("{}", milliseconds{1});
    CHECK(reply.transport == Transport::resolve);
    CHECK(reply.error == "resolve opsmeter.silent: no answer in time");
}

TEST_CASE("forward/http_upstream: a connection that fell silent takes the idle ones with it") {
    World world([](std::size_t index, const std::string&) {
        return index < 2 ? opsrelay::test::ok("{}") : Served{"", false, true};
    });
    std::array<Reply, 2> replies;
    TaskGroup group(world.io.get_executor(), world.clock);
    for (auto& reply : replies) {
        group.spawn("test",
                    World::keep(world.upstream->send("{}", world.clock.now() + hours{1}), reply));
    }
    while (group.size() > 0) world.io.run_one();
    CHECK(world.upstream->idle_connections() == 2);
    CHECK(world.send("{}", milliseconds{30}).transport == Transport::timeout);
    CHECK(world.upstream->idle_connections() == 0);
    CHECK(world.send("{}", milliseconds{30}).transport == Transport::timeout);
    CHECK(world.server.connections() == 3);  // the last one on a connection of its own
}

TEST_CASE("forward/http_upstream: rebuilding drops idle connections") {
    World world(always);
    CHECK(world.send("{}").status == 200);
    world.upstream->tend_connections(false);
    CHECK(world.upstream->idle_connections() == 1);
    world.upstream->tend_connections(true);
    CHECK(world.upstream->idle_connections() == 0);
    CHECK(world.send("{}").status == 200);
    CHECK(world.upstream->idle_connections() == 1);
}

TEST_CASE("forward/http_upstream: an idle connection is closed after a minute, and used no more") {
    World world(always);
    CHECK(world.send("{}").status == 200);
    world.clock.pass(kConnectionIdleMax - seconds{30});
    world.upstream->tend_connections(false);
    CHECK(world.upstream->idle_connections() == 1);
    CHECK(world.send("{}").status == 200);
    CHECK(world.server.connections() == 1);
    world.clock.pass(kConnectionIdleMax);
    world.upstream->tend_connections(false);
    CHECK(world.upstream->idle_connections() == 0);
    CHECK(world.send("{}").status == 200);
    world.clock.pass(kConnectionIdleMax);
    CHECK(world.send("{}").status == 200);  // nobody looked meanwhile
    CHECK(world.server.connections() == 3);
}

TEST_CASE("forward/http_upstream: a connection in use ends after five minutes") {
    World world(always);
    CHECK(world.send("{}").status == 200);
    for (auto age = nanoseconds{0}; age < kConnectionAgeMax; age += seconds{50}) {
        CHECK(world.server.connections() == 1);
        CHECK(world.send("{}").status == 200);
        world.clock.pass(seconds{50});
    }
    CHECK(world.send("{}").status == 200);
    CHECK(world.server.connections() == 2);
}

TEST_CASE("forward/http_upstream: a new connection goes to where the name points by then") {
    World world(always);
    world.options.allow_plaintext = true;
    world.connect(fmt::format("http://many.test:{}", world.server.port()));
    {
        const opsrelay::test::ManyAddresses before({"127.0.0.1"});
        CHECK(world.send("{}").status == 200);
    }
    const opsrelay::test::ManyAddresses after({"127.0.0.2"});
    CHECK(world.send("{}").status == 200);  // the kept connection
    world.clock.pass(kConnectionAgeMax);
    const auto reply = world.send("{}");
    CHECK(reply.transport == Transport::refused);
    CHECK(reply.error.find("127.0.0.2") != std::string::npos);
    CHECK(world.server.connections() == 1);
}

TEST_CASE("forward/http_upstream: the kernel gives a connection up as late as a request") {
    World world(always);
    world.options.timeout = seconds{7};
    world.connect(fmt::format("http://127.0.0.1:{}", world.server.port()));
    CHECK(world.send("{}").status == 200);
    int found = 0;
    for (int fd = 0; fd < 1024; ++fd) {
        sockaddr_in peer{};
        socklen_t size = sizeof peer;
        auto* const address = reinterpret_cast<sockaddr*>(&peer);
        if (::getpeername(fd, address, &size) != 0 || peer.sin_family != AF_INET) continue;
        if (ntohs(peer.sin_port) != world.server.port()) continue;
        unsigned milliseconds_max = 0;
        socklen_t length = sizeof milliseconds_max;
        REQUIRE(::getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds_max, &length) == 0);
        CHECK(milliseconds_max == 7000);
        ++found;
    }
    CHECK(found == 1);
}

}  // namespace opsrelay::forward
