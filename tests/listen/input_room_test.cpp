// Many peers who stop in the middle of a large message: what that takes, who waits, who goes.
#include <doctest/doctest.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <list>
#include <string>

#include "listen/http_world.h"
#include "listen/input_room.h"
#include "listen/world.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

constexpr std::string_view kAcks = "{\"opsrelay\":{\"acks\":true}}\n";
const std::string kLarge(50'000, 'x');

struct RoomWorld : World {
    RoomWorld() {
        add(ListenerKind::unix_stream, "s.sock");
        add(ListenerKind::http);
        inlet.settle_at_once = true;
        options.unfinished_patience = seconds{1000};
    }
    [[nodiscard]] Client stream() const { return {SOCK_STREAM, address(0)}; }
    [[nodiscard]] Client http() const { return {SOCK_STREAM, address(1)}; }
    /// As many as have a place; they have sent the beginning of a line.
    void fill(const std::string& before = {}) {
        while (holders.size() < InputRoom::kPlacesMax) {
            auto& holder = holders.emplace_back(stream());
            holder.send(*this, before + kLarge);
            run_until([&] { return unread(holder) == 0; });
        }
    }
    /// Of what it sent, bytes that the listener has left with the kernel.
    static int unread(const Client& client) {
        int bytes = 0;
        REQUIRE(::ioctl(client.fd.get(), SIOCOUTQ, &bytes) == 0);
        return bytes;
    }
    [[nodiscard]] bool has_line(const std::string& line) const {
        const auto texts = inlet.texts();
        return std::find(texts.begin(), texts.end(), line) != texts.end();
    }
    std::list<Client> holders;
};

}  // namespace

TEST_CASE("listen/input_room: beyond the places a large line waits unread, small ones pass") {
    RoomWorld world;
    world.start();
    world.fill();
    auto late = world.stream();
    late.send(world, kLarge + "late");
    auto small = world.stream();
    for (const auto* const text : {"one\n", "two\nthr", "ee\n"}) {
        small.send(world, text);
        world.run_until([&] { return RoomWorld::unread(small) == 0; });
    }
    world.run_until([&] { return world.has_line("three"); });
    CHECK(RoomWorld::unread(late) > 40'000);

    world.holders.front().send(world, "\n");
    world.run_until([&] { return RoomWorld::unread(late) == 0; });
    CHECK(world.has_line(kLarge));
    late.send(world, "\n");
    world.run_until([&] { return world.has_line(kLarge + "late"); });
    CHECK(world.listeners->connections() == InputRoom::kPlacesMax + 2);
}

TEST_CASE("listen/input_room: places are given in the order in which they were asked for") {
    RoomWorld world;
    world.start();
    world.fill();
    std::list<Client> waiting;
    for (int i = 0; i < 3; ++i) {
        waiting.push_back(world.stream());
        waiting.back().send(world, kLarge);
        world.run_ready();
    }
    for (auto& next : waiting) {
        CHECK(RoomWorld::unread(next) > 0);
        auto& holder = world.holders.front();
        // It goes on with another large line, and is the last to get a place for it.
        holder.send(world, "\n" + kLarge);
        world.run_until([&] { return RoomWorld::unread(next) == 0; });
        CHECK(RoomWorld::unread(holder) > 0);
        world.holders.splice(world.holders.end(), world.holders, world.holders.begin());
    }
    for (auto& one : world.holders) one.finish();
    for (auto& one : waiting) one.finish();
    world.run_until([&] { return world.listeners->connections() == 0; });
    CHECK(world.inlet.recorded.size() == InputRoom::kPlacesMax + 6);
}

TEST_CASE(
    "listen/input_room: who does not end a line goes when others wait, and learns what counts") {
    RoomWorld world;
    world.options.unfinished_patience = milliseconds{20};
    world.start();
    world.fill(std::string(kAcks) + "a\n");
    auto late = world.stream();
    late.send(world, kLarge + "late\n");
    world.run_until([&] { return world.has_line(kLarge + "late"); });
    auto& first = world.holders.front();
    world.run_until([&] { return first.closed(); });
    CHECK(first.received.ends_with("{\"durable\":1,\"rejected\":0}\n"));
    CHECK(world.has_line(kLarge));  // counted, for what it is
    CHECK_FALSE(late.closed());
}

TEST_CASE("listen/input_room: nobody goes for what the listener itself did not read") {
    RoomWorld world;
    world.options.unfinished_patience = milliseconds{1};
    world.start();
    world.fill();
    world.inlet.set_room(false);
    for (auto& holder : world.holders) holder.send(world, "y");  // met at the head of the loop
    auto late = world.http();
    late.send(world, request(kLarge).substr(0, 20'000));
    const auto until = world.clock.now() + milliseconds{20};
    world.run_until([&] { return world.clock.now() >= until; });
    CHECK(world.listeners->connections() == InputRoom::kPlacesMax + 1);
}

TEST_CASE("listen/input_room: a large request waits for its place until its deadline") {
    RoomWorld world;
    world.start();
    world.fill();
    auto client = world.http();
    SUBCASE("a small one needs none") {
        CHECK(status_of(exchange(world, client, request("{}"))) == 200);
    }
    SUBCASE("a batch has a bound of its own") {
        const auto batch = "[" + std::string(50'000, ' ') + "{}]";
        CHECK(status_of(exchange(world, client, request(batch, "", "/v1/ingest/batch"))) == 200);
    }
    SUBCASE("it gets one") {
        client.send(world, request(kLarge));
        world.run_ready();
        CHECK(world.inlet.recorded.empty());
        world.holders.front().finish();
        world.run_until([&] { return client.read(), has(client.received, "\r\n\r\n"); });
        CHECK(status_of(client.received) == 200);
    }
}

TEST_CASE("listen/input_room: without a place in time the answer is 503") {
    RoomWorld world;
    world.options.http_read_timeout = milliseconds{20};
    world.start();
    world.fill();
    auto client = world.http();
    (void)client.try_send(request(kLarge));
    world.run_until([&] { return client.read(), has(client.received, "\r\n\r\n"); });
    CHECK(status_of(client.received) == 503);
    CHECK(has(client.received, "memory_full"));
    CHECK(has(client.received, "Retry-After: 1\r\n"));
}

TEST_CASE("listen/input_room: a request has its place until it is answered") {
    RoomWorld world;
    world.inlet.settle_at_once = false;
    world.options.http_ack_timeout = seconds{1000};
    world.start();
    std::list<Client> clients;
    while (clients.size() < InputRoom::kPlacesMax) {
        clients.emplace_back(world.http()).send(world, request(kLarge));
    }
    world.run_until([&] { return world.inlet.waiting_for_settlement == InputRoom::kPlacesMax; });
    auto late = world.stream();
    late.send(world, kLarge);
    world.run_ready();
    CHECK(RoomWorld::unread(late) > 40'000);
    world.inlet.settle_all();
    world.run_until([&] { return RoomWorld::unread(late) == 0; });
}

TEST_CASE("listen/input_room: a stop ends the wait for a place") {
    RoomWorld world;
    world.start();
    world.fill();
    auto stream = world.stream();
    auto http = world.http();
    stream.send(world, kLarge + "late\n");
    (void)http.try_send(request(kLarge));
    world.run_ready();
    SUBCASE("in time") {
        world.stop(milliseconds{200});
        CHECK(world.has_line(kLarge + "late"));  // what the kernel held was sent before
    }
    SUBCASE("at its deadline") { world.stop(milliseconds{1}); }
    CHECK(stream.closed());
    CHECK(http.closed());
}
