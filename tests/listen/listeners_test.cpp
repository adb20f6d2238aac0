#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "listen/connection_budget.h"
#include "listen/world.h"
#include "support/log_capture.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

TEST_CASE("listen/listeners: all kinds at once, each with its lane, address and count") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.add(ListenerKind::unix_stream, "s.sock");
    world.add(ListenerKind::udp);
    world.add(ListenerKind::http);
    world.add(ListenerKind::http, "http.sock");
    world.options.listeners[1].lane.lane = LaneId{3};
    world.inlet.settle_at_once = true;
    world.start();
    for (std::size_t i = 0; i < 5; ++i) {
        const auto kind = world.listeners->status()[i].kind;
        const bool datagrams = kind == ListenerKind::unix_datagram || kind == ListenerKind::udp;
        Client client(datagrams ? SOCK_DGRAM : SOCK_STREAM, world.address(i));
        const char* http =
            "POST /v1/ingest/llm-request HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Length: 1\r\n\r\nx";
        client.send(world, kind == ListenerKind::http ? http : "x\n");
        world.run_until([&] { return world.inlet.recorded.size() == i + 1; });
        CHECK(world.inlet.recorded.back().bytes == "x");
        CHECK(world.inlet.recorded.back().origin.kind == kind);
        CHECK(world.listeners->status()[i].received == 1);
    }
    CHECK(world.inlet.recorded[1].origin.lane == LaneId{3});
    CHECK(world.address(0) == world.dir / "d.sock");
    CHECK(world.address(2).starts_with("127.0.0.1:"));
    CHECK(world.listeners->status()[0].receive_buffer.count > 0);
}

TEST_CASE("listen/listeners: lane and defaults of a listener change, connections stay") {
    World world;
    world.add(ListenerKind::unix_stream, "s.sock");
    world.inlet.settle_at_once = true;
    world.start();
    Client client(SOCK_STREAM, world.address(0));
    client.send(world, "x\n");
    world.run_until([&] { return world.inlet.recorded.size() == 1; });
    CHECK(world.inlet.recorded[0].origin.lane == kDefaultLane);
    auto options = world.options;
    options.listeners[0].lane.lane = LaneId{3};
    options.listeners[0].defaults = 2;
    world.listeners->configure(options);
    client.send(world, "x\n");
    world.run_until([&] { return world.inlet.recorded.size() == 2; });
    CHECK(world.inlet.recorded[1].origin.lane == LaneId{3});
    CHECK(world.inlet.recorded[1].origin.defaults == 2);
}

TEST_CASE("listen/listeners: one listener that cannot be made takes the others down again") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.add(ListenerKind::unix_stream, "none/s.sock");
    Listeners listeners(world.io.get_executor(), world.inlet, world.clock, world.options,
                        world.registry, world.plans);
    const auto opened = listeners.open();
    REQUIRE_FALSE(opened.has_value());
    CHECK(opened.error().code == Errc::listener_failed);
    CHECK(opened.error().context.starts_with("unix_stream: "));
    CHECK_FALSE(std::filesystem::exists(world.dir / "d.sock"));
    CHECK(listeners.status().empty());
    world.options.listeners.pop_back();
    world.start();  // and nothing of the first attempt is in the way
}

TEST_CASE("listen/connection_budget: descriptors are kept for the spool, upstream and admin") {
    struct Case {
        const char* name;
        std::size_t wanted;
        rlim_t descriptors;
        std::size_t limit;
    };
    const Case cases[] = {
        {"plenty", 1024, 65'536, 1024},        {"without a limit", 1024, RLIM_INFINITY, 1024},
        {"exactly enough", 1024, 1280, 1024},  {"one too few", 1024, 1279, 1023},
        {"usual soft limit", 1024, 1024, 768}, {"floor", 1024, 272, 16},
        {"hardly any", 1024, 64, 16},          {"few wanted", 4, 64, 4},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(affordable_connections(test.wanted, test.descriptors) == test.limit);
    }
}

TEST_CASE("listen/listeners: a limit beyond the descriptors is cut, and said so") {
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &old) == 0);
    for (const bool cut : {true, false}) {
        CAPTURE(cut);
        World world;
        world.add(ListenerKind::unix_stream, "s.sock");
        world.options.connections_max = cut ? 100 : 20;
        const test::LogCapture log;
        const rlimit few{kDescriptorsKept + 20, old.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
        world.start();
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &old) == 0);
        CHECK(log.count(log::Level::warn) == (cut ? 1 : 0));
        CHECK(log.count("asked=100 limit=20 descriptors=276") == (cut ? 1 : 0));
        CHECK(log.count("LimitNOFILE") == (cut ? 1 : 0));
        std::vector<Client> clients;
        for (int i = 0; i < 21; ++i) clients.emplace_back(SOCK_STREAM, world.address());
        world.run_until([&] { return world.refused() == 1; });
        CHECK(world.listeners->connections() == 20);
    }
}

TEST_CASE("listen/listeners: the connection limit holds for all listeners together") {
    World world;
    world.add(ListenerKind::unix_stream, "s.sock");
    world.add(ListenerKind::http, "http.sock");
    world.options.connections_max = 2;
    world.start();
    std::vector<Client> streams;
    for (int i = 0; i < 2; ++i) streams.emplace_back(SOCK_STREAM, world.address(0));
    world.run_until([&] { return world.listeners->connections() == 2; });
    Client refused(SOCK_STREAM, world.address(1));
    refused.expect(world, "}");
    CHECK(refused.received.starts_with("HTTP/1.1 503 "));
    CHECK(world.refused(0) == 0);
    CHECK(world.refused(1) == 1);
    streams.pop_back();
    world.run_until([&] { return world.listeners->connections() == 1; });
    Client taken(SOCK_STREAM, world.address(1));
    world.run_until([&] { return world.listeners->connections() == 2; });
    Client over(SOCK_STREAM, world.address(0));
    world.run_until([&] { return over.closed(); });
    CHECK(world.refused(0) == 1);
}

TEST_CASE("listen/listeners: opened but never started leaves nothing behind") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    {
        Listeners listeners(world.io.get_executor(), world.inlet, world.clock, world.options,
                            world.registry, world.plans);
        REQUIRE(listeners.open().has_value());
        CHECK(std::filesystem::exists(world.dir / "d.sock"));
    }
    CHECK_FALSE(std::filesystem::exists(world.dir / "d.sock"));
}

TEST_CASE("listen/listeners: a heavy datagram sender does not keep streams from their turn") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.add(ListenerKind::unix_stream, "s.sock");
    world.start();
    Client heavy(SOCK_DGRAM, world.address(0));
    Client light(SOCK_STREAM, world.address(1));
    light.send(world, "light\n");
    world.run_until([&] {
        while (heavy.try_send("heavy") > 0) {
        }
        world.io.poll_one();
        const auto texts = world.inlet.texts();
        return std::find(texts.begin(), texts.end(), "light") != texts.end();
    });
}
