#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "listen/datagram_batch.h"
#include "listen/world.h"
#include "support/log_capture.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

constexpr std::size_t kLimit = 64U << 10U;

// Datagrams in, lines out: "text", or "!kept of length" when oversize.
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
        lines.push_back(one.oversize ? "!" + std::to_string(one.bytes.size()) + " of " +
                                           std::to_string(one.length)
                                     : one.bytes);
    }
    lines.pop_back();
    return lines;
}

}  // namespace

TEST_CASE("listen/datagram_source: a datagram is one or more lines") {
    const std::string full(kLimit, 'x');
    const std::string three = full + "\n" + full + "\n" + full + "\n";  // 196,611 bytes
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
        {"one byte over", full + "y", {"!65536 of 65537"}, false},
        {"a long one, read whole", three + "y", {full, full, full, "y"}, false},
        {"an event too long in a long one",
         "a\n" + full + full + "\nb",
         {"a", "!65536 of 131072", "b"},
         false},
        {"a long one at the limit",
         three + std::string(65'533, 'y'),
         {full, full, full, std::string(65'533, 'y')},
         false},
        {"cut in its last line", three + full, {full, full, full, "!65533 of 65536"}, false},
        {"cut exactly behind a line",
         full + "\r\n" + full + "\n" + full + "\n" + std::string(65'531, 'y') + "\nzz\nzz",
         {full, full, full, std::string(65'531, 'y'), "!0 of 5"},
         false},
        {"one line, cut", full + full + full + full + full, {"!65536 of 327680"}, false},
        {"NUL byte", std::string("a\0b", 3), {std::string("a\0b", 3)}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(lines_of(ListenerKind::unix_datagram, {test.datagram}) == test.lines);
        if (test.fits_udp) CHECK(lines_of(ListenerKind::udp, {test.datagram}) == test.lines);
    }
}

TEST_CASE(
    "listen/datagram_source: a datagram that was cut is told, with its length and the limit") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.start();
    const test::LogCapture log;
    Client client(SOCK_DGRAM, world.address());
    const int buffer = 1 << 20;
    ::setsockopt(client.fd.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    for (int i = 0; i < 2; ++i) {
        REQUIRE(client.try_send(std::string(300'000, 'x')) == 300'000);
        world.run_ready();
    }
    world.run_until([&] { return world.inlet.recorded.size() == 2; });
    CHECK(log.count("a datagram is too long: its end is rejected; put fewer events into one") == 1);
    CHECK(log.count("bytes=300000 limit=262144") == 1);
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
    CHECK(batch[0].length == 3);
    CHECK(batch[1].bytes.empty());
    CHECK(batch.kernel_drops() == 0);
}

TEST_CASE("listen/datagram_batch: what large datagrams took is given back") {
    DatagramBatch batch;
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    const UniqueFd reader(pair[0]);
    const UniqueFd writer(pair[1]);
    const std::string large(150'000, 'x');
    CHECK(::send(writer.get(), "small", 5, 0) == 5);
    CHECK(::send(writer.get(), large.data(), large.size(), 0) == 150'000);
    REQUIRE_FALSE(batch.receive(reader.get()));
    REQUIRE(batch.size() == 2);
    CHECK(batch[1].bytes == large);
    const auto resident = [](const char* at) {
        const auto page = static_cast<std::uintptr_t>(::getpagesize());
        const auto begin = reinterpret_cast<std::uintptr_t>(at) / page * page;
        unsigned char in_core = 0;
        CHECK(::mincore(reinterpret_cast<void*>(begin), page, &in_core) == 0);
        return (in_core & 1U) != 0;
    };
    const auto* const small_at = batch[0].bytes.data();
    const auto* const large_at = batch[1].bytes.data();
    CHECK(resident(large_at + 149'999));
    batch.release();
    CHECK(batch.size() == 0);
    CHECK(resident(small_at));
    CHECK(resident(large_at + DatagramBatch::kKeptBytes - 1));
    CHECK_FALSE(resident(large_at + DatagramBatch::kKeptBytes));
    CHECK_FALSE(resident(large_at + 149'999));
}
