#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "listen/ack_tracker.h"
#include "listen/world.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

constexpr std::string_view kAcks = "{\"opsrelay\":{\"acks\":true}}\n";

struct StreamWorld : World {
    StreamWorld() { add(ListenerKind::unix_stream, "s.sock"); }
    [[nodiscard]] Client connect() const { return {SOCK_STREAM, address()}; }
    void run_until_recorded(std::size_t count) {
        run_until([this, count] { return inlet.recorded.size() >= count; });
    }
};

std::string ack(std::uint64_t durable, std::uint64_t rejected) {
    return "{\"durable\":" + std::to_string(durable) + ",\"rejected\":" + std::to_string(rejected) +
           "}\n";
}

}  // namespace

TEST_CASE("listen/stream_session: without the first line a stream is silent to its end") {
    StreamWorld world;
    world.inlet.settle_at_once = true;
    world.start();
    auto client = world.connect();
    client.send(world, "a\nbad\r\n\n{\"opsrelay\":{\"acks\":true}}\nlast");
    client.finish();
    world.run_until([&] { return client.closed(); });
    CHECK(world.inlet.texts() ==
          std::vector<std::string>{"a", "bad", "{\"opsrelay\":{\"acks\":true}}", "last"});
    CHECK(client.received.empty());
    CHECK(world.inlet.recorded[0].origin.kind == ListenerKind::unix_stream);
}

TEST_CASE("listen/stream_session: half a line then close is one line") {
    StreamWorld world;
    world.start();
    {
        auto client = world.connect();
        client.send(world, "a\n{\"provider\":\"op");
    }
    world.run_until(
        [&] { return world.listeners->connections() == 0 && !world.inlet.recorded.empty(); });
    CHECK(world.inlet.texts() == std::vector<std::string>{"a", "{\"provider\":\"op"});
}

TEST_CASE("listen/stream_session: acks are cumulative, in line order, and final at the end") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "a\nbad\nb\ndup\nc\n");
    world.run_until_recorded(5);
    world.run_ready();
    client.read();
    CHECK(client.received.empty());  // `a` is not durable, so nothing behind it counts
    world.inlet.settle(1);
    client.expect(world, ack(1, 1));
    world.inlet.settle(2);
    client.expect(world, ack(3, 1));  // b, and the duplicate behind it
    client.send(world, "d");
    client.finish();
    world.run_until_recorded(6);
    world.inlet.settle_all();
    client.expect(world, ack(5, 1));
    world.run_until([&] { return client.closed(); });
    CHECK(client.received.starts_with(ack(1, 1) + ack(3, 1)));
}

TEST_CASE(
    "listen/stream_session: rejected lines and known duplicates are acknowledged unprompted") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "bad\ndup\nbad\n");
    client.expect(world, ack(1, 2));
}

TEST_CASE("listen/stream_session: a connection without lines gets a final ack too") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.finish();
    client.expect(world, ack(0, 0));
    world.run_until([&] { return client.closed(); });
}

TEST_CASE("listen/stream_session: a duplicate waits for the event it repeats") {
    StreamWorld world;
    world.inlet.decide = [](const Message& message) {
        Offered offered;
        offered.position = 7;
        if (message.bytes == "again") offered.admission = Admission::duplicate;
        return offered;
    };
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "again\n");
    world.run_until([&] { return world.inlet.waiting_for_settlement == 1; });
    client.read();
    CHECK(client.received.empty());
    world.inlet.settle(7);
    client.expect(world, ack(1, 0));
}

TEST_CASE(
    "listen/stream_session: an event given up is never acknowledged and ends the connection") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "a\nb\nc\n");
    world.run_until_recorded(3);
    world.inlet.settle(1);
    client.expect(world, ack(1, 0));
    world.inlet.give_up(2);
    world.run_until([&] { return client.closed(); });
    CHECK(client.received == ack(1, 0));
}

TEST_CASE(
    "listen/stream_session: a shed line ends an acknowledged connection after the ones before") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "a\nshed\nb\n");
    world.run_until_recorded(3);
    world.inlet.settle_all();
    world.run_until([&] { return client.closed(); });
    CHECK(client.received == ack(1, 0));
}

TEST_CASE("listen/stream_session: no progress for the ack timeout closes the connection") {
    StreamWorld world;
    world.options.stream_ack_timeout = milliseconds{20};
    world.start();
    SUBCASE("while the socket is read") {}
    SUBCASE("while there is no room") {
        world.inlet.decide = [&world](const Message&) {
            Offered offered;
            offered.position = world.inlet.next_position();
            world.inlet.set_room(false);
            return offered;
        };
    }
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "a\n");
    world.run_until([&] { return client.closed(); });
    CHECK(client.received.empty());
    world.run_until([&] { return world.listeners->connections() == 0; });
}

TEST_CASE(
    "listen/stream_session: a peer that does not read its acks is closed, memory stays bounded") {
    StreamWorld world;
    world.options.stream_ack_timeout = milliseconds{100};
    world.options.stream_ack_delay = milliseconds{0};
    world.inlet.settle_at_once = true;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    bool gone = false;
    world.run_until([&] {  // each line may cause an ack: sooner or later they fill the socket
        for (int i = 0; i < 64 && !gone; ++i) {
            const auto sent = client.try_send("bad\n");
            gone = sent < 0 && sent != -EAGAIN;
            world.io.poll();
        }
        return gone;
    });
    world.run_until([&] { return world.listeners->connections() == 0; });
}

TEST_CASE("listen/stream_session: lines without acks in return stop the reading at a bound") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    const std::string burst = [] {
        std::string lines;
        for (int i = 0; i < 16'384; ++i) lines += "a\n";
        return lines;
    }();
    bool full = false;
    std::size_t stalls = 0;
    std::size_t offset = 0;
    world.run_until([&] {
        const auto before = world.inlet.recorded.size();
        const auto sent = client.try_send(std::string_view(burst).substr(offset));
        if (sent > 0) offset = (offset + static_cast<std::size_t>(sent)) % burst.size();
        world.run_ready();
        stalls = sent < 0 && world.inlet.recorded.size() == before ? stalls + 1 : 0;
        full = stalls > 20;
        return full;
    });
    CHECK(world.inlet.recorded.size() >= AckTracker::kLinesMax);
    CHECK(world.inlet.recorded.size() < 2 * AckTracker::kLinesMax);
    const auto before = world.inlet.recorded.size();
    world.inlet.settle_all();
    world.run_until_recorded(before + 1);  // and it goes on
}

TEST_CASE("listen/stream_session: without room the socket is left unread") {
    StreamWorld world;
    world.start();
    world.inlet.set_room(false);
    auto client = world.connect();
    const std::string line = std::string(1000, 'x') + "\n";
    std::size_t taken = 0;
    while (client.try_send(line) == static_cast<long>(line.size())) ++taken;
    world.run_ready();
    CHECK(world.inlet.recorded.empty());
    CHECK(taken > 0);
    world.inlet.set_room(true);
    world.run_until_recorded(taken);
}

TEST_CASE("listen/stream_session: a line over 64 KiB is one too_large, its neighbours pass") {
    StreamWorld world;
    world.inlet.settle_at_once = true;
    world.start();
    auto client = world.connect();
    client.send(world, kAcks);
    client.send(world, "a\n");
    const std::string chunk(1U << 20U, 'x');
    for (int i = 0; i < 64; ++i) client.send(world, chunk);
    client.send(world, "\nb\n");
    world.run_until_recorded(3);
    REQUIRE(world.inlet.recorded.size() == 3);
    CHECK(world.inlet.recorded[1].oversize);
    CHECK(world.inlet.recorded[1].bytes.size() == kEventBytesMax.count);
    CHECK(world.inlet.recorded[2].bytes == "b");
    client.expect(world, ack(2, 1));
}

TEST_CASE("listen/stream_session: bursts offered to the inlet are bounded") {
    StreamWorld world;
    world.start();
    auto client = world.connect();
    std::string many;
    for (int i = 0; i < 20'000; ++i) many += "x\n";
    client.send(world, many);
    world.run_until_recorded(20'000);
    CHECK(world.inlet.largest_burst == Burst::kMessagesMax);
}

TEST_CASE("listen/acceptor: connections over the limit are closed at once and counted") {
    StreamWorld world;
    world.options.connections_max = 4;
    world.start();
    std::vector<Client> kept;
    for (int i = 0; i < 4; ++i) kept.push_back(world.connect());
    world.run_until([&] { return world.listeners->connections() == 4; });
    for (int i = 0; i < 10'000; ++i) {
        auto extra = world.connect();
        if (i % 64 == 0) world.run_ready();
    }
    world.run_until([&] { return world.refused() == 10'000; });
    CHECK(world.listeners->connections() == 4);
    auto refused = world.connect();
    world.run_until([&] { return refused.closed(); });
    kept[0].send(world, "still served\n");
    world.run_until_recorded(1);
    kept.pop_back();
    world.run_until([&] { return world.listeners->connections() == 3; });
    auto next = world.connect();
    next.send(world, "a\n");
    world.run_until_recorded(2);
}

TEST_CASE("listen/acceptor: when descriptors run out it waits and goes on later") {
    StreamWorld world;
    world.start();
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &old) == 0);
    auto client = world.connect();
    client.send(world, "a\n");
    const rlimit none{3, old.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    std::size_t turns = 0;
    while (world.io.poll() > 0) ++turns;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &old) == 0);
    CHECK(turns < 100);  // it does not spin
    CHECK(world.inlet.recorded.empty());
    world.run_until_recorded(1);
}

TEST_CASE("listen/listeners: a removed stream path is made again, old connections live on") {
    StreamWorld world;
    world.start();
    auto before = world.connect();
    world.run_until([&] { return world.listeners->connections() == 1; });
    std::filesystem::remove(world.address());
    world.run_until([&] { return std::filesystem::exists(world.address()); });
    auto after = world.connect();
    after.send(world, "new\n");
    before.send(world, "old\n");
    world.run_until_recorded(2);
}

TEST_CASE("listen/listeners: a stop finishes what was received and sends the last acks") {
    StreamWorld world;
    world.start();
    auto idle = world.connect();
    auto client = world.connect();
    client.send(world, kAcks);
    world.run_until([&] { return world.listeners->connections() == 2; });
    client.send(world, "a\nb\nhalf");
    auto queued = world.connect();        // not yet accepted
    constexpr std::size_t kQueued = 100;  // more than one read takes
    std::string lines;
    for (std::size_t i = 0; i < kQueued; ++i) lines += std::string(1000, 'c') + "\n";
    REQUIRE(queued.try_send(lines) == static_cast<long>(lines.size()));
    world.inlet.settle_at_once = true;
    world.stop(seconds{10});
    CHECK(world.inlet.recorded.size() == 2 + kQueued);
    client.read();
    CHECK(client.received.ends_with(ack(2, 0)));
    CHECK(client.closed());
    CHECK(idle.closed());
}

TEST_CASE("listen/listeners: a stop reads what is left in turns") {
    StreamWorld world;
    bool turn_given = false;
    bool given_at_last = false;
    world.inlet.decide = [&](const Message& message) {
        if (message.bytes == "first") asio::post(world.io, [&] { turn_given = true; });
        if (message.bytes == "last") given_at_last = turn_given;
        return Offered{};
    };
    world.start();
    auto client = world.connect();
    const auto lines = "first\n" + std::string(100'000, 'x') + "\nlast\n";  // over one read
    REQUIRE(client.try_send(lines) == static_cast<long>(lines.size()));
    world.stop(seconds{10});
    CHECK(world.inlet.recorded.size() == 3);
    CHECK(given_at_last);
}

TEST_CASE("listen/listeners: the deadline of a stop ends every wait") {
    StreamWorld world;
    world.options.stream_ack_timeout = seconds{1000};
    world.start();
    auto client = world.connect();
    SUBCASE("for acks") {
        client.send(world, kAcks);
        client.send(world, "a\n");
        world.run_until([&] { return world.inlet.waiting_for_settlement == 1; });
    }
    SUBCASE("for room") {
        world.inlet.set_room(false);
        client.send(world, "a\n");
        world.run_until([&] { return world.listeners->connections() == 1; });
    }
    SUBCASE("for the tracker's bound") {
        client.send(world, kAcks);
        std::string lines;
        for (std::size_t i = 0; i < AckTracker::kLinesMax + 10; ++i) lines += "a\n";
        client.send(world, lines);
        world.run_until_recorded(AckTracker::kLinesMax);
    }
    world.stop(milliseconds{5});
    CHECK(client.closed());
    CHECK(client.received.empty());
}
