#include "forward/http_upstream.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fstream>
#include <optional>

#include "core/task_group.h"
#include "forward/loopback_server.h"
#include "forward/silent_resolver.h"
#include "support/temp_dir.h"

namespace opsrelay::forward {

namespace {

using test::LoopbackServer;
using test::Served;

/// A loopback server and the real client on one thread.
struct World {
    explicit World(LoopbackServer::Handler handler) : server(io, clock, std::move(handler)) {
        connect(fmt::format("http://127.0.0.1:{}", server.port()));
    }
    World(LoopbackServer::Handler handler, const test::Certificate& identity, bool trusted)
        : server(io, clock, std::move(handler), identity) {
        const auto file = dir / "ca.pem";
        std::ofstream(file) << identity.certificate_pem;
        if (trusted) options.ca_file = file;
        connect(fmt::format("https://localhost:{}", server.port()));
    }
    ~World() {
        upstream.reset();
        run(server.stop());
    }
    void connect(const std::string& url) {
        options.url = url;
        auto made = HttpUpstream::make(io.get_executor(), clock, options);
        REQUIRE(made.has_value());
        upstream = std::move(*made);
        upstream->set_api_key("secret");
    }
    void run(asio::awaitable<void> task) {
        TaskGroup group(io.get_executor(), clock);
        group.spawn("test", std::move(task));
        io.restart();
        while (group.size() > 0) io.run_one();
    }
    static asio::awaitable<void> keep(asio::awaitable<Reply> call, Reply& into) {
        into = co_await std::move(call);
    }
    Reply send(std::string_view body, milliseconds timeout = seconds{30}) {
        Reply reply;
        run(keep(upstream->send(body, clock.now() + timeout), reply));
        return reply;
    }
    Reply status() {
        Reply reply;
        run(keep(upstream->workspace_status(clock.now() + seconds{30}), reply));
        return reply;
    }
    static asio::awaitable<void> pause(Clock& clock) { co_await clock.sleep_for(milliseconds{5}); }

    asio::io_context io;
    SystemClock clock;
    test::TempDir dir;
    Options options;
    LoopbackServer server;
    std::unique_ptr<HttpUpstream> upstream;
};

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

TEST_CASE("forward/http_upstream: a resolution counts until the resolver has come back") {
    World world(always);
    CHECK_FALSE(world.upstream->resolving());
    CHECK(world.send("{}").status == 200);
    CHECK_FALSE(world.upstream->resolving());  // a numeric address asks nobody
    world.connect("https://opsmeter.silent");
    test::SilentResolver resolver;
    for (int i = 0; i < 2; ++i) {
        const auto reply = world.send("{}", milliseconds{1});
        CHECK(reply.transport == Transport::resolve);
        CHECK(reply.error == "resolve opsmeter.silent: no answer in time");
        CHECK(world.upstream->resolving());
    }
    resolver.release();
    world.io.restart();
    while (world.upstream->resolving() && world.io.run_one() > 0) {
    }
    CHECK_FALSE(world.upstream->resolving());
}

TEST_CASE("forward/http_upstream: the resolver may come back when the client is gone") {
    test::SilentResolver resolver;
    asio::io_context io;
    SystemClock clock;
    Options options;
    options.url = "https://opsmeter.silent";
    auto upstream = HttpUpstream::make(io.get_executor(), clock, options);
    REQUIRE(upstream.has_value());
    (*upstream)->set_api_key("secret");
    Reply reply;
    TaskGroup group(io.get_executor(), clock);
    group.spawn("test", World::keep((*upstream)->send("{}", clock.now() + milliseconds{1}), reply));
    while (group.size() > 0) io.run_one();
    CHECK(reply.transport == Transport::resolve);
    upstream->reset();
    resolver.release();
    CHECK(io.run() > 0);  // its handler, and then there is nothing to wait for
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

TEST_CASE("forward/http_upstream: TLS delivers only to a host with a valid, trusted certificate") {
    struct Case {
        const char* name;
        const char* host;
        seconds from;
        seconds to;
        bool trusted;
        Transport transport;
        const char* complaint;
    };
    const Case cases[] = {
        {"good", "localhost", -hours{1}, hours{1}, true, Transport::ok, ""},
        {"self-signed", "localhost", -hours{1}, hours{1}, false, Transport::tls, "self-signed"},
        {"wrong host", "example.org", -hours{1}, hours{1}, true, Transport::tls, "certificate"},
        {"expired", "localhost", -hours{2}, -hours{1}, true, Transport::tls, "expired"},
        {"not yet valid", "localhost", hours{1}, hours{2}, true, Transport::tls, "not yet valid"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world(always, test::make_certificate(test.host, test.from, test.to), test.trusted);
        const auto reply = world.send("{}");
        CAPTURE(reply.error);
        CHECK(reply.transport == test.transport);
        CHECK(reply.error.find(test.complaint) != std::string::npos);
        CHECK(world.server.requests().size() == (test.transport == Transport::ok ? 1U : 0U));
        if (test.transport != Transport::ok) continue;
        CHECK(world.send("{}").status == 200);
        CHECK(world.server.connections() == 1);
    }
}

TEST_CASE("forward/http_upstream: a plain server behind https is a TLS failure") {
    World world([](std::size_t, const std::string&) { return Served{"x", true}; });
    world.connect(fmt::format("https://127.0.0.1:{}", world.server.port()));
    CHECK(world.send("{}", milliseconds{200}).transport != Transport::ok);
    CHECK(world.server.requests().empty());
}

TEST_CASE("forward/http_upstream: a missing CA file is named") {
    asio::io_context io;
    SystemClock clock;
    Options options;
    options.ca_file = "/nonexistent/ca.pem";
    const auto made = HttpUpstream::make(io.get_executor(), clock, options);
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == Errc::config_invalid);
    CHECK(made.error().context.find("upstream.ca_file: \"/nonexistent/ca.pem\"") !=
          std::string::npos);
}

}  // namespace opsrelay::forward
