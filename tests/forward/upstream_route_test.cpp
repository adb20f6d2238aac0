// Ways to the upstream: several addresses, a Unix socket, a proxy.
#include <doctest/doctest.h>

#include "forward/http_upstream.h"
#include "forward/name_service.h"
#include "forward/tunnel.h"
#include "forward/upstream_world.h"

namespace opsrelay::forward {

namespace {

using test::Served;
using test::Tunnel;
using World = test::UpstreamWorld;

constexpr const char* kEstablished = "HTTP/1.1 200 Connection established\r\n\r\n";

Served always(std::size_t, const std::string&) { return test::ok(R"({"ok":true})"); }

/// A proxy in front of the world's server, and the client told to use it.
struct Proxied {
    Proxied(World& w, const std::string& url, Tunnel::Answer answer,
            std::string_view credentials = {})
        : world(w), tunnel(w.io, w.clock, w.server.port(), std::move(answer)) {
        const auto proxy =
            parse_proxy(fmt::format("http://{}127.0.0.1:{}", credentials, tunnel.port()));
        REQUIRE(proxy.has_value());
        world.options.proxy = *proxy;
        world.connect(url);
    }
    ~Proxied() {
        world.upstream.reset();
        world.run(tunnel.stop());
    }
    World& world;
    Tunnel tunnel;
};

}  // namespace

TEST_CASE("forward/upstream_route: an address that refuses is followed by the next one") {
    World world(always);
    const test::ManyAddresses names({"127.0.0.9", "::1", "127.0.0.1"});
    world.options.allow_plaintext = true;
    world.connect(fmt::format("http://many.test:{}", world.server.port()));
    for (int i = 0; i < 2; ++i) {
        const auto reply = world.send("{}");
        CAPTURE(reply.error);
        CHECK(reply.status == 200);
        world.upstream->tend_connections(true);
    }
    CHECK(world.server.connections() == 2);
}

TEST_CASE("forward/upstream_route: when no address answers, the last one's error is told") {
    World world(always);
    const test::ManyAddresses names({"127.0.0.9", "127.0.0.8"});
    world.options.allow_plaintext = true;
    world.connect(fmt::format("http://many.test:{}", world.server.port()));
    const auto reply = world.send("{}");
    CHECK(reply.transport == Transport::refused);
    CHECK(reply.error ==
          fmt::format("connect to 127.0.0.8:{}: Connection refused", world.server.port()));
}

TEST_CASE("forward/upstream_route: a Unix socket") {
    World world(always);
    const auto path = world.dir / "api.sock";
    world.connect("unix:" + path);
    const auto missing = world.send("{}");
    CHECK(missing.transport == Transport::refused);
    CHECK(missing.error == "connect to unix:" + path + ": No such file or directory");
    Tunnel socket(world.io, world.clock, world.server.port(), path);
    for (int i = 0; i < 2; ++i) CHECK(world.send(R"({"a":1})").status == 200);
    CHECK(socket.connections() == 1);
    const auto& request = world.server.requests()[0];
    CHECK(request.starts_with("POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\n"));
    CHECK(request.ends_with("{\"a\":1}"));
    world.upstream.reset();
    world.run(socket.stop());
}

TEST_CASE("forward/upstream_route: a proxy is not asked for a Unix socket") {
    World world(always);
    world.options.proxy = Proxy{.host = "127.0.0.1", .port = 1, .user = {}, .password = {}};
    const auto path = world.dir / "api.sock";
    world.connect("unix:" + path);
    CHECK(world.send("{}").error.starts_with("connect to unix:"));
}

TEST_CASE("forward/upstream_route: a proxy makes a tunnel, and resolves the name") {
    World world(always, test::make_certificate("api.opsmeter.test", -hours{1}, hours{1}), true);
    Proxied proxied(world, "https://api.opsmeter.test",
                    [](const std::string&) { return kEstablished; });
    for (int i = 0; i < 2; ++i) {
        const auto reply = world.send("{}");
        CAPTURE(reply.error);
        CHECK(reply.status == 200);
    }
    CHECK(proxied.tunnel.connections() == 1);
    REQUIRE(proxied.tunnel.heads().size() == 1);
    const auto& head = proxied.tunnel.heads()[0];
    CHECK(
        head.starts_with("CONNECT api.opsmeter.test:443 HTTP/1.1\r\n"
                         "Host: api.opsmeter.test:443\r\nUser-Agent: opsrelay/"));
    CHECK(head.find("Proxy-Authorization") == std::string::npos);
    CHECK(head.find("X-API-Key") == std::string::npos);
    CHECK(world.server.requests()[0].find("\r\nX-API-Key: secret\r\n") != std::string::npos);
}

TEST_CASE("forward/upstream_route: a proxy gets its credentials, the upstream does not") {
    World world(always);
    Proxied proxied(
        world, fmt::format("http://127.0.0.1:{}", world.server.port()),
        [](const std::string&) { return kEstablished; }, "me:p%40ss@");
    CHECK(world.send("{}").status == 200);
    REQUIRE(proxied.tunnel.heads().size() == 1);
    CHECK(
        proxied.tunnel.heads()[0].ends_with("\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"));
    CHECK(world.server.requests()[0].find("Proxy-") == std::string::npos);
}

TEST_CASE("forward/upstream_route: an IPv6 upstream is asked for in brackets") {
    World world(always);
    world.options.allow_plaintext = true;
    Proxied proxied(world, "http://[2001:db8::1]:8080",
                    [](const std::string&) { return kEstablished; });
    CHECK(world.send("{}").status == 200);
    CHECK(proxied.tunnel.heads()[0].starts_with("CONNECT [2001:db8::1]:8080 HTTP/1.1\r\n"));
}

TEST_CASE("forward/upstream_route: what a proxy may say instead of making a tunnel") {
    struct Case {
        const char* name;
        std::string answer;
        Transport transport;
        const char* complaint;
    };
    const Case cases[] = {
        {"wants credentials", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
         Transport::refused, "refused with status 407, which asks for a user and password"},
        {"forbids it", "HTTP/1.0 403 hidden-text\r\nContent-Length: 3\r\n\r\nno!",
         Transport::refused, "refused with status 403"},
        {"cannot reach it", "HTTP/1.1 502 Bad Gateway\r\n\r\n", Transport::refused,
         "refused with status 502"},
        {"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Transport::refused, "not HTTP"},
        {"not a status", "HTTP/1.1 2x0 OK\r\n\r\n", Transport::refused, "not HTTP"},
        {"cut short", "HTTP/1.1\r\n\r\n", Transport::refused, "not HTTP"},
        {"bytes behind the reply", std::string(kEstablished) + "HTTP/1.1 200 OK\r\n",
         Transport::refused, "bytes behind the reply"},
        {"no end", "HTTP/1.1 500 X\r\nX: " + std::string(20'000, 'x'), Transport::refused,
         "the reply has no end"},
        {"half a reply", "HTTP/1.1 200 OK\r\n", Transport::timeout, "no answer in time"},
        {"nothing", "", Transport::timeout, "no answer in time"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world(always);
        Proxied proxied(
            world, fmt::format("http://127.0.0.1:{}", world.server.port()),
            [&](const std::string&) { return test.answer; }, "me:hidden@");
        const auto reply = world.send("{}", milliseconds{200});
        CHECK(reply.transport == test.transport);
        CAPTURE(reply.error);
        CHECK(reply.error.starts_with(
            fmt::format("CONNECT through proxy 127.0.0.1:{}: ", proxied.tunnel.port())));
        CHECK(reply.error.find(test.complaint) != std::string::npos);
        CHECK(reply.error.find("hidden") == std::string::npos);
        CHECK(world.server.requests().empty());
    }
}

TEST_CASE("forward/upstream_route: a proxy that is not there") {
    World world(always);
    world.options.proxy = Proxy{.host = "127.0.0.1", .port = 1, .user = "me", .password = "hidden"};
    world.connect("https://api.opsmeter.test");
    const auto reply = world.send("{}");
    CHECK(reply.transport == Transport::refused);
    CHECK(reply.error == "connect to 127.0.0.1:1: Connection refused");
    world.options.proxy->host = "opsrelay-proxy.invalid";
    world.connect("https://api.opsmeter.test");
    CHECK(world.send("{}").transport == Transport::resolve);
}

TEST_CASE("forward/upstream_route: the certificate must be the upstream's, not the proxy's") {
    World world(always, test::make_certificate("proxy.test", -hours{1}, hours{1}), true);
    Proxied proxied(world, "https://api.opsmeter.test",
                    [](const std::string&) { return kEstablished; });
    const auto reply = world.send("{}");
    CHECK(reply.transport == Transport::tls);
    CHECK(world.server.requests().empty());
}

}  // namespace opsrelay::forward
