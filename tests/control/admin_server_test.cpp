#include "control/admin_server.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <doctest/doctest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include <cerrno>
#include <cstring>
#include <string>

#include "core/nothrow.h"
#include "core/task_group.h"
#include "support/temp_dir.h"

namespace opsrelay::control {

namespace {

using Tcp = asio::ip::tcp;

asio::awaitable<AdminResponse> echo_path(AdminRequest request) {
    AdminResponse response;
    response.status = request.path == "/known" ? 200 : 404;
    response.body = "{\"path\":\"" + request.path + "\"}";
    if (request.post)
        response.body = std::to_string(request.body.size()) + request.body.substr(0, 9);
    co_return response;
}

asio::awaitable<void> exchange(std::uint16_t port, std::string request, std::string& reply) {
    Tcp::socket socket(co_await asio::this_coro::executor);
    const Tcp::endpoint server(asio::ip::address_v4::loopback(), port);
    const auto [connect_ec] = co_await socket.async_connect(server, nothrow);
    if (connect_ec) co_return;
    co_await asio::async_write(socket, asio::buffer(request), nothrow);
    auto into = asio::dynamic_buffer(reply);
    co_await asio::async_read(socket, into, nothrow);  // to the end: requests say close
}

asio::awaitable<void> stop(AdminServer& server, bool& stopped) {
    co_await server.stop();
    stopped = true;
}

struct World {
    World() { REQUIRE(server.listen_tcp("127.0.0.1", 0).has_value()); }
    World(const World&) = delete;
    World& operator=(const World&) = delete;
    ~World() {
        bool stopped = false;
        asio::co_spawn(io, stop(server, stopped), asio::detached);
        io.restart();
        io.run();
        CHECK(stopped);
    }
    std::string ask(const std::string& request) { return ask(request, server.port()); }
    std::string ask(const std::string& request, std::uint16_t port) {
        std::string reply;
        bool done = false;
        asio::co_spawn(io, exchange(port, request, reply),
                       [&done](const std::exception_ptr&) { done = true; });
        io.restart();
        while (!done) io.run_one();
        return reply;
    }

    asio::io_context io;
    SystemClock clock;
    AdminServer server{io.get_executor(), clock, echo_path};
};

std::string get(const std::string& target, const std::string& headers = "Host: localhost\r\n") {
    return "GET " + target + " HTTP/1.1\r\n" + headers + "Connection: close\r\n\r\n";
}

}  // namespace

TEST_CASE("control/admin_server: methods, names and browsers") {
    struct Case {
        const char* name;
        std::string request;
        const char* status;
    };
    const Case cases[] = {
        {"known path", get("/known"), "HTTP/1.1 200 "},
        {"the query is not part of the path", get("/known?x=1"), "HTTP/1.1 200 "},
        {"unknown path", get("/other"), "HTTP/1.1 404 "},
        {"foreign host", get("/known", "Host: attacker.example\r\n"), "HTTP/1.1 403 "},
        {"foreign origin", get("/known", "Host: localhost\r\nOrigin: https://attacker.example\r\n"),
         "HTTP/1.1 403 "},
        {"POST",
         "POST /known HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: "
         "close\r\n\r\n",
         "HTTP/1.1 403 "},
        {"another method", "DELETE /known HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 405 "},
    };
    World world;
    world.server.start();
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(world.ask(test.request).rfind(test.status, 0) == 0);
    }
}

TEST_CASE("control/admin_server: HEAD has the length and no body") {
    World world;
    world.server.start();
    const auto reply =
        world.ask("HEAD /known HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    CHECK(reply.find("Content-Length: 17\r\n") != std::string::npos);
    CHECK(reply.substr(reply.size() - 4) == "\r\n\r\n");
}

TEST_CASE("control/admin_server: what cannot be answered ends the connection, not the server") {
    World world;
    world.server.start();
    CHECK(world.ask("nonsense\r\n\r\n").rfind("HTTP/1.1 400 ", 0) == 0);
    CHECK(world.ask(get("/known", "X: " + std::string(9'000, 'x') + "\r\n"))
              .rfind("HTTP/1.1 431 ", 0) == 0);
    CHECK(world.ask("POST /known HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
              .find("only_over_admin_socket") != std::string::npos);
    CHECK(world.ask("GET /known HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
              .rfind("HTTP/1.1 400 ", 0) == 0);
    CHECK(world.ask(get("/known")).rfind("HTTP/1.1 200 ", 0) == 0);
}

TEST_CASE("control/admin_server: only loopback, and a port that is free") {
    World world;
    asio::io_context io;
    AdminServer other(io.get_executor(), world.clock, echo_path);
    const auto taken = other.listen_tcp("127.0.0.1", world.server.port());
    REQUIRE_FALSE(taken.has_value());
    CHECK(taken.error().code == Errc::address_in_use);
    CHECK(taken.error().context.find(std::to_string(world.server.port())) != std::string::npos);
    AdminServer remote(io.get_executor(), world.clock, echo_path);
    const auto refused = remote.listen_tcp("0.0.0.0", 0);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Errc::config_invalid);
}

TEST_CASE("control/admin_server: the metrics port serves /metrics to any Host and nothing else") {
    struct Case {
        const char* name;
        std::string request;
        const char* status;
        const char* body;
    };
    const Case cases[] = {
        {"a scrape by the pod's address", get("/metrics", "Host: 10.1.2.3:8712\r\n"), "404 ",
         R"({"path":"/metrics"})"},  // the handler was asked
        {"the query is not part of the path", get("/metrics?x=1", ""), "404 ",
         R"({"path":"/metrics"})"},
        {"no other path", get("/known"), "404 ", R"({"ok":false,"reason":"not_found"})"},
        {"nor one that only begins so", get("/metrics/"), "404 ",
         R"({"ok":false,"reason":"not_found"})"},
        {"nor what the port for operators shows", get("/status"), "404 ",
         R"({"ok":false,"reason":"not_found"})"},
        {"foreign origin", get("/metrics", "Host: x\r\nOrigin: https://x.example\r\n"), "403 ",
         R"({"ok":false,"reason":"origin_not_local"})"},
        {"a change", "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "405 ",
         R"({"ok":false,"reason":"method_not_allowed"})"},
        {"no HTTP", "nonsense\r\n\r\n", "400 ", R"({"ok":false,"reason":"not_http"})"},
    };
    World world;
    REQUIRE(world.server.metrics_port() == 0);
    REQUIRE(world.server.listen_metrics("0.0.0.0", 0).has_value());
    REQUIRE(world.server.metrics_port() != 0);
    world.server.start();
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto reply = world.ask(test.request, world.server.metrics_port());
        CHECK(reply.starts_with(std::string("HTTP/1.1 ") + test.status));
        CHECK(reply.ends_with(std::string("\r\n\r\n") + test.body));
    }
    CHECK(world.ask(get("/known")).starts_with("HTTP/1.1 200 "));
}

TEST_CASE("control/admin_server: the metrics port says what it cannot bind") {
    World world;
    const auto nonsense = world.server.listen_metrics("pod", 0);
    REQUIRE_FALSE(nonsense.has_value());
    CHECK(nonsense.error().code == Errc::config_invalid);
    const auto taken = world.server.listen_metrics("127.0.0.1", world.server.port());
    REQUIRE_FALSE(taken.has_value());
    CHECK(taken.error().code == Errc::address_in_use);
    CHECK(taken.error().context.find("set metrics.address") != std::string::npos);
    AdminServer other(world.io.get_executor(), world.clock, echo_path);
    const auto elsewhere = other.listen_metrics("192.0.2.1", 0);  // TEST-NET-1: nobody has it
    REQUIRE_FALSE(elsewhere.has_value());
    CHECK(elsewhere.error().code == Errc::listener_failed);
}

namespace {

/// A server on a Unix socket.
struct SocketWorld : World {
    SocketWorld() {
        const auto path = dir.path() + "/admin.sock";
        UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM, 0));
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
        REQUIRE(::bind(listening.get(), generic, sizeof address) == 0);
        REQUIRE(::listen(listening.get(), 1) == 0);
        REQUIRE(server.adopt_unix(std::move(listening)).has_value());
        server.start();
    }
    std::string ask_socket(std::string_view request) {
        const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM, 0));
        const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
        REQUIRE(::connect(client.get(), generic, sizeof address) == 0);
        std::string reply;
        char chunk[4096];
        for (;;) {
            const auto sent =
                ::send(client.get(), request.data(), request.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent > 0) request.remove_prefix(static_cast<std::size_t>(sent));
            io.restart();
            io.poll();
            const auto got = ::recv(client.get(), chunk, sizeof chunk, MSG_DONTWAIT);
            if (got > 0) reply.append(chunk, static_cast<std::size_t>(got));
            if (got == 0 || (got < 0 && errno != EAGAIN)) return reply;
        }
    }

    test::TempDir dir;
    sockaddr_un address{};
};

std::string post(std::size_t length, std::string_view body) {
    return "POST /known HTTP/1.1\r\nHost: opsrelay\r\nConnection: close\r\nContent-Length: " +
           std::to_string(length) + "\r\n\r\n" + std::string(body);
}

}  // namespace

TEST_CASE("control/admin_server: a socket it is given is served without the rules for browsers") {
    SocketWorld world;
    const auto reply = world.ask_socket(get("/known", "Host: opsrelay\r\n"));
    CHECK(reply.rfind("HTTP/1.1 200 ", 0) == 0);
}

TEST_CASE("control/admin_server: the socket takes changes, up to a limit") {
    SocketWorld world;
    CHECK(world.ask_socket(post(2, "{}")).ends_with("\r\n\r\n2{}"));
    const std::string large(kAdminBodyMax, 'x');
    CHECK(world.ask_socket(post(large.size(), large)).ends_with("\r\n\r\n1048576xxxxxxxxx"));
    CHECK(world.ask_socket(post(large.size() + 1, "x")).rfind("HTTP/1.1 413 ", 0) == 0);
    CHECK(world.ask_socket("PUT /known HTTP/1.1\r\nHost: x\r\n\r\n").rfind("HTTP/1.1 405 ", 0) ==
          0);
    CHECK(world.ask_socket(get("/known")).rfind("HTTP/1.1 200 ", 0) == 0);
}

TEST_CASE("control/admin_server: root and the daemon's own user may change things") {
    CHECK(may_administer(0, 998));
    CHECK(may_administer(998, 998));
    CHECK(may_administer(0, 0));
    CHECK_FALSE(may_administer(1000, 998));
    CHECK_FALSE(may_administer(998, 0));
}

}  // namespace opsrelay::control
