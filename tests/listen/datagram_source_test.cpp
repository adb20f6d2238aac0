#include <doctest/doctest.h>
#include <sys/socket.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "listen/datagram_batch.h"
#include "listen/world.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

constexpr std::size_t kLimit = 64U << 10U;

// Datagrams in, lines out: "text", or "!length" when oversize.
std::vector<std::string> lines_of(ListenerKind kind, const std::vector<std::string>& datagrams) {
    World world;
    world.add(kind, kind == ListenerKind::udp ? "" : "d.sock");
    world.start();
    Client client(SOCK_DGRAM, world.address());
    const int buffer = 1 << 20;
    ::setsockopt(client.fd.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    for (const auto& datagram : datagrams) {
        REQUIRE(client.try_send(datagram) == static_cast<long>(datagram.size()));
        world.run_ready();
    }
    REQUIRE(client.try_send("end") == 3);
    world.run_until([&] {
        return !world.inlet.recorded.empty() && world.inlet.recorded.back().bytes == "end";
    });
    CHECK(world.listeners->status()[0].received == world.inlet.recorded.size());
    std::vector<std::string> lines;
    for (const auto& one : world.inlet.recorded) {
        CHECK(one.origin.kind == kind);
        lines.push_back(one.oversize ? "!" + std::to_string(one.bytes.size()) : one.bytes);
    }
    lines.pop_back();
    return lines;
}

}  // namespace

TEST_CASE("listen/datagram_source: a datagram is one or more lines") {
    const std::string full(kLimit, 'x');
    struct Case {
        const char* name;
        std::string datagram;
        std::vector<std::string> lines;
        bool fits_udp = true;
    };
    const Case cases[] = {
        {"one line", "a", {"a"}},
        {"with newline", "a\n", {"a"}},
        {"several", "a\nb\r\nc", {"a", "b", "c"}},
        {"empty lines", "\n\na\n\r\n \n", {"a"}},
        {"empty datagram", "", {}},
        {"only blank", "  \n", {}},
        {"event at the limit", full, {full}, false},
        {"event at the limit with newline", full + "\r\n", {full}, false},
        {"one byte over", full + "y", {"!65536"}, false},
        {"complete lines of a long one", "a\n" + full + "y", {"a", "!65536"}, false},
        {"complete lines of a longer one", "a\nb\n" + full + full, {"a", "b", "!65534"}, false},
        {"long, only complete lines fit", full + "\ny" + full, {full, "!1"}, false},
        {"cut exactly behind a line", full + "\r\n" + full, {full, "!0"}, false},
        {"NUL byte", std::string("a\0b", 3), {std::string("a\0b", 3)}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(lines_of(ListenerKind::unix_datagram, {test.datagram}) == test.lines);
        if (test.fits_udp) CHECK(lines_of(ListenerKind::udp, {test.datagram}) == test.lines);
    }
}

TEST_CASE("listen/datagram_source: clients report their own drops, which are no events") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.start();
    Client client(SOCK_DGRAM, world.address());
    CHECK(client.try_send("{\"opsrelay\":{\"dropped\":3}}\na\n{\"opsrelay\":{\"dropped\":4}}") > 0);
    world.run_until([&] { return world.inlet.recorded.size() == 1; });
    CHECK(world.inlet.client_drops == 7);
    CHECK(world.listeners->status()[0].received == 1);
}

TEST_CASE("listen/datagram_source: reads on while the inlet has no room") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.start();
    world.inlet.set_room(false);
    Client client(SOCK_DGRAM, world.address());
    for (int i = 0; i < 1000; ++i) client.send(world, "event");
    world.run_until([&] { return world.inlet.recorded.size() == 1000; });
}

TEST_CASE("listen/datagram_source: bursts offered to the inlet are bounded") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.start();
    Client client(SOCK_DGRAM, world.address());
    std::string many;
    for (int i = 0; i < 5000; ++i) many += "x\n";
    client.send(world, many);
    world.run_until([&] { return world.inlet.recorded.size() == 5000; });
    CHECK(world.inlet.largest_burst == Burst::kMessagesMax);
}

TEST_CASE("listen/datagram_source: what the kernel holds at a stop is still read") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.add(ListenerKind::udp);
    world.start();
    Client local(SOCK_DGRAM, world.address(0));
    Client udp(SOCK_DGRAM, world.address(1));
    for (int i = 0; i < 5; ++i) {
        CHECK(local.try_send("a") == 1);
        CHECK(udp.try_send("b") == 1);
    }
    world.stop(seconds{10});
    CHECK(world.inlet.recorded.size() == 10);
    CHECK_FALSE(std::filesystem::exists(world.dir / "d.sock"));
}

TEST_CASE("listen/datagram_source: a removed path is made again and the old socket is read empty") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.start();
    Client before(SOCK_DGRAM, world.address());
    std::filesystem::remove(world.address());
    CHECK(before.try_send("old") == 3);
    world.run_until([&] { return std::filesystem::exists(world.address()); });
    Client after(SOCK_DGRAM, world.address());
    CHECK(after.try_send("new") == 3);
    world.run_until([&] { return world.inlet.recorded.size() == 2; });
    CHECK(world.inlet.texts() == std::vector<std::string>{"old", "new"});
    world.run_until(
        [&] { return before.try_send("x") < 0; });  // connected to a socket that is gone
}

TEST_CASE("listen/datagram_source: datagrams the kernel dropped are counted") {
    World world;
    world.add(ListenerKind::udp);
    world.options.receive_buffer = Bytes{4096};
    world.start();
    Client client(SOCK_DGRAM, world.address());
    const std::string event(1000, 'x');
    constexpr std::uint64_t kSent = 200;
    for (std::uint64_t i = 0; i < kSent; ++i) REQUIRE(client.try_send(event) == 1000);
    world.run_until([&] {
        const auto status = world.listeners->status()[0];
        return status.received + status.kernel_drops == kSent;
    });
    const auto status = world.listeners->status()[0];
    CHECK(status.kernel_drops > 0);
    CHECK(world.registry.counter(observe::kKernelDrops, "udp:" + status.address).value() ==
          status.kernel_drops);
    CHECK(status.receive_buffer < Bytes{8192});
}

TEST_CASE("listen/datagram_batch: the drop counter rides on the messages") {
    DatagramBatch batch;
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    const UniqueFd reader(pair[0]);
    const UniqueFd writer(pair[1]);
    CHECK(batch.receive(reader.get()).value() == EAGAIN);
    CHECK(batch.size() == 0);
    CHECK(::send(writer.get(), "one", 3, 0) == 3);
    CHECK(::send(writer.get(), "", 0, 0) == 0);
    REQUIRE_FALSE(batch.receive(reader.get()));
    REQUIRE(batch.size() == 2);
    CHECK(batch[0].bytes == "one");
    CHECK_FALSE(batch[0].truncated);
    CHECK(batch[1].bytes.empty());
    CHECK(batch.kernel_drops() == 0);
}
