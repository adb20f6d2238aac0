#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stop_token>
#include <string>
#include <thread>

#include "listen/acceptor.h"
#include "listen/http_rules.h"
#include "listen/http_world.h"
#include "listen/rate_limiter.h"
#include "listen/token_file.h"
#include "support/log_capture.h"
#include "support/sim_clock.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

constexpr const char* kToken = "a-token-of-some-length";
constexpr const char* kOther = "another-token-as-long";

PeerKey peer(std::uint64_t number) { return {1, number}; }

void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
}

std::uint64_t refused_peers(World& world) {
    const auto status = world.listeners->status().at(0);
    const auto label = std::string(to_string(status.kind)) + ":" + status.address;
    return world.registry.counter(observe::kPeersRefused, label).value();
}

}  // namespace

TEST_CASE("listen/rate_limiter: so many a second, as many at once, each peer by itself") {
    RateLimiter limiter(10);
    TimePoint now{seconds{100}};
    for (int i = 0; i < 10; ++i) CHECK(limiter.take(peer(1), now));
    CHECK_FALSE(limiter.take(peer(1), now));
    CHECK(limiter.take(peer(2), now));
    now += milliseconds{99};
    CHECK_FALSE(limiter.take(peer(1), now));
    now += milliseconds{1};
    CHECK(limiter.take(peer(1), now));
    CHECK_FALSE(limiter.take(peer(1), now));
    now += seconds{60};  // idle for long: still no more than a second's worth
    int taken = 0;
    while (limiter.take(peer(1), now)) ++taken;
    CHECK(taken == 10);
    RateLimiter none(0);
    CHECK(none.off());
    for (int i = 0; i < 1000; ++i) CHECK(none.take(peer(1), now));
    CHECK(none.peers() == 0);
}

TEST_CASE("listen/rate_limiter: what was taken ahead is waited for") {
    RateLimiter limiter(10);
    const TimePoint now{seconds{100}};
    CHECK(limiter.take_ahead(peer(1), 10, now) == now);
    CHECK(limiter.take_ahead(peer(1), 0, now) == now);
    CHECK(limiter.take_ahead(peer(1), 25, now) == now + milliseconds{2500});
    CHECK_FALSE(limiter.take(peer(1), now + milliseconds{2500}));
    CHECK(limiter.take(peer(1), now + milliseconds{2600}));
}

TEST_CASE(
    "listen/rate_limiter: any number of peers takes bounded memory, and those that are idle "
    "make room") {
    RateLimiter limiter(2);
    TimePoint now{seconds{100}};
    for (std::uint64_t i = 0; i < RateLimiter::kPeersMax; ++i) CHECK(limiter.take(peer(i), now));
    CHECK(limiter.take(peer(1'000'000), now));  // the rest has one bucket together
    CHECK(limiter.take(peer(1'000'001), now));
    CHECK_FALSE(limiter.take(peer(1'000'002), now));
    CHECK(limiter.peers() == RateLimiter::kPeersMax);
    now += seconds{2};
    CHECK(limiter.take(peer(1'000'002), now));
    CHECK(limiter.peers() == 1);
}

TEST_CASE("listen/peer: addresses without ports, and users with their process") {
    const auto v4 = [](std::uint32_t address, std::uint16_t port) {
        sockaddr_in in{};
        in.sin_family = AF_INET;
        in.sin_addr.s_addr = address;
        in.sin_port = port;
        sockaddr_storage storage{};
        std::memcpy(&storage, &in, sizeof in);
        return key_of(storage);
    };
    CHECK(v4(1, 1) == v4(1, 2));
    CHECK(v4(1, 1) != v4(2, 1));
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_addr.s6_addr[0] = 0x20;
    sockaddr_storage storage{};
    std::memcpy(&storage, &in6, sizeof in6);
    CHECK(key_of(storage).hi != 0);
    CHECK(key_of(ucred{1, 2, 3}) == key_of(ucred{1, 2, 9}));
    CHECK(key_of(ucred{1, 2, 3}) != key_of(ucred{2, 2, 3}));
    CHECK(key_of(ucred{1, 2, 3}) != key_of(ucred{1, 3, 3}));
    CHECK(key_of_connection(-1) == PeerKey{});
}

TEST_CASE("listen/peer: a list allows by user or by any group, and an empty one everybody") {
    const gid_t groups[] = {5, 6};
    CHECK(AccessList{}.allows(7, {}));
    CHECK(AccessList({7}, {}).allows(7, groups));
    CHECK_FALSE(AccessList({7}, {}).allows(8, groups));
    CHECK(AccessList({}, {6}).allows(8, groups));
    CHECK(AccessList({1}, {6}).allows(8, groups));
    CHECK_FALSE(AccessList({1}, {9}).allows(8, groups));
    CHECK(AccessList({}, {5}).allows(ucred{1, 1, 5}));
    CHECK_FALSE(AccessList({0}, {}).allows_connection(-1));
}

TEST_CASE("listen/token_file: one token a line, and errors that do not tell them") {
    struct Case {
        const char* name;
        std::string text;
        std::size_t tokens;  // 0: refused
        const char* complaint;
    };
    std::string many;
    for (std::size_t i = 0; i <= TokenSet::kTokensMax; ++i) {
        many += kToken + std::to_string(i) + "\n";
    }
    const Case cases[] = {
        {"one", kToken, 1, ""},
        {"two, spaces, empty lines", std::string("\n ") + kToken + " \r\n\n" + kOther + "\n", 2,
         ""},
        {"longest", std::string(1024, 't'), 1, ""},
        {"nothing", " \n\n", 0, "has no token; put one token a line into it"},
        {"short", std::string(kToken) + "\nshort-secret\n", 0, "line 2 is no token"},
        {"too long", std::string(1025, 't'), 0, "line 1 is no token"},
        {"two on a line", std::string(kToken) + " " + kOther, 0, "line 1 is no token"},
        {"control character", std::string(kToken) + "\x01", 0, "line 1 is no token"},
        {"too many", many, 0, "more than 64 tokens"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto tokens = TokenSet::parse(test.text, "the file");
        CHECK((tokens ? tokens->size() : 0) == test.tokens);
        if (tokens) continue;
        CHECK(has(tokens.error().context, "the file: "));
        CHECK(has(tokens.error().context, test.complaint));
        CHECK_FALSE(has(tokens.error().context, "secret"));
    }
    const auto tokens = *TokenSet::parse(std::string(kToken) + "\n" + kOther, "x");
    CHECK(tokens.admits(kToken));
    CHECK(tokens.admits(kOther));
    CHECK_FALSE(tokens.admits(""));
    CHECK_FALSE(tokens.admits(std::string(kToken) + "x"));
    const std::string bearer = std::string("bearer ") + kToken;
    CHECK(tokens.admits(bearer, std::nullopt));
    CHECK(tokens.admits(std::nullopt, kOther));
    CHECK(tokens.admits("Basic x", kOther));
    CHECK_FALSE(tokens.admits(kToken, std::nullopt));
    CHECK_FALSE(tokens.admits("Bearer", std::nullopt));
    CHECK_FALSE(tokens.admits(std::nullopt, std::nullopt));
}

TEST_CASE("listen/token_file: a change is seen, and what cannot be used changes nothing") {
    const test::LogCapture log;
    const test::TempDir dir;
    test::SimClock clock;
    const auto path = dir / "tokens";
    TokenFile file(path, clock);
    CHECK_FALSE(file.load().has_value());
    write(path, kToken);
    const auto first = file.load();
    REQUIRE(first.has_value());
    CHECK_FALSE(file.poll().has_value());
    write(path, "short");
    CHECK_FALSE(file.poll().has_value());
    CHECK(log.count("token file cannot be used") == 1);
    write(path, kOther);
    const auto second = file.poll();
    REQUIRE(second.has_value());
    CHECK(second->admits(kOther));
    CHECK_FALSE(second->admits(kToken));
    std::filesystem::remove(path);
    CHECK_FALSE(file.poll().has_value());
    CHECK(log.count(kOther) == 0);
}

TEST_CASE("listen/http_session: a listener with tokens asks for one, and for no Host") {
    HttpWorld world;
    const auto path = world.dir / "tokens";
    write(path, std::string(kToken) + "\n" + kOther + "\n");
    world.options.listeners[0].token_file = path;
    world.start();
    auto client = world.connect();
    struct Case {
        const char* name;
        std::string header;
        int status;
    };
    const Case cases[] = {
        {"none", "", 401},
        {"bearer", std::string("Authorization: Bearer ") + kToken + "\r\n", 200},
        {"the other one", std::string("authorization: bearer ") + kOther + "\r\n", 200},
        {"wrong", "Authorization: Bearer another-token-as-lonh\r\n", 401},
        {"basic", std::string("Authorization: Basic ") + kToken + "\r\n", 401},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto reply = exchange(world, client, request("{}", test.header));
        CHECK(status_of(reply) == test.status);
        CHECK(has(reply, "WWW-Authenticate: Bearer\r\n") == (test.status == 401));
        CHECK(has(reply, R"("reason":"invalid_token")") == (test.status == 401));
    }
    const auto elsewhere = exchange(world, client, request("{}", "", "/nothing"));
    CHECK(status_of(elsewhere) == 401);
    const std::string sdk = std::string("POST /v1/ingest/llm-request HTTP/1.1\r\n") +
                            "Host: relay.svc:8710\r\nX-Api-Key: " + kOther +
                            "\r\nContent-Length: 2\r\n\r\n{}";
    CHECK(status_of(exchange(world, client, sdk)) == 200);
    CHECK(world.inlet.recorded.size() == 3);
    world.listeners->set_tokens(0, *TokenSet::parse("one-more-token-of-16", "x"));
    CHECK(status_of(exchange(world, client, sdk)) == 401);
}

TEST_CASE("listen/http_session: without its token file a listener does not open") {
    HttpWorld world;
    world.options.listeners[0].token_file = world.dir / "none";
    Listeners listeners(world.io.get_executor(), world.inlet, world.clock, world.options,
                        world.registry, world.plans);
    const auto opened = listeners.open();
    REQUIRE_FALSE(opened.has_value());
    CHECK(has(opened.error().context, "token_file: token file "));
}

TEST_CASE("listen/http_session: a peer over its rate gets 429, and its batch as much as it may") {
    HttpWorld world;
    world.options.listeners[0].rate_limit = 3;
    world.start();
    world.inlet.decide = [&](const Message& message) {
        Offered offered;
        offered.admission = message.over_rate ? Admission::shed : Admission::accepted;
        offered.shed = ShedReason::rate_limited;
        return offered;
    };
    auto client = world.connect();
    const auto batch = exchange(world, client, request("[1,2,3,4]", "", "/v1/ingest/batch"));
    CHECK(has(batch, R"({"index":2,"status":200,"reason":null})"));
    CHECK(has(batch, R"({"index":3,"status":429,"reason":"rate_limited"})"));
    const auto reply = exchange(world, client, request("{}"));
    CHECK(status_of(reply) == 429);
    CHECK(has(reply, "Retry-After: 1\r\n"));
    CHECK(has(reply, R"("reason":"rate_limited")"));
}

TEST_CASE("listen/http_rules: what upstream would say, though the event is kept") {
    HttpReply kept;
    kept.body = R"({"ok":true,"duplicate":true})";
    using Kind = UpstreamRefusal::Kind;
    const TimePoint now{seconds{100}};
    const auto mirror = [&](Kind kind, TimePoint retry_at = {}) {
        return mirrored(kept, "id-1", {"Free", false, false, false, false}, {kind, retry_at}, now);
    };
    CHECK(mirror(Kind::none).body == kept.body);
    const auto plan = mirror(Kind::plan_limit);
    CHECK(plan.status == 402);
    CHECK(plan.body ==
          R"({"ok":false,"externalRequestId":"id-1","reason":"plan_limit_reached",)"
          R"("telemetryPaused":true,"providerCallsContinue":true,"isPlanLimitReached":true,)"
          R"("budgetWarning":false,"budgetExceeded":false,"planTier":"Free","warnings":[],)"
          R"("duplicate":true})");
    const auto budget = mirror(Kind::budget);
    CHECK(budget.status == 402);
    CHECK(has(budget.body, R"("reason":"budget_exceeded")"));
    CHECK(has(budget.body, R"("budgetExceeded":true)"));
    const auto throttled = mirror(Kind::throttled, now + milliseconds{2100});
    CHECK(throttled.status == 429);
    CHECK(throttled.retry_after == 3);
    CHECK(mirror(Kind::throttled, now - seconds{1}).retry_after == 1);
    kept.status = 503;
    CHECK(mirror(Kind::plan_limit).status == 503);
}

TEST_CASE("listen/acceptor: a peer that is not allowed is told and counted, others are served") {
    for (const bool allowed : {true, false}) {
        CAPTURE(allowed);
        HttpWorld world(true);
        world.options.listeners[0].allow_uids = {allowed ? ::geteuid() : ::geteuid() + 1};
        world.start();
        auto client = world.connect();
        if (allowed) {
            CHECK(status_of(exchange(world, client, request("{}"))) == 200);
        } else {
            world.run_until([&] { return client.closed(); });
            CHECK(status_of(client.received) == 403);
            CHECK(has(client.received, R"("reason":"peer_not_allowed")"));
        }
        CHECK(refused_peers(world) == (allowed ? 0 : 1));
        CHECK(world.inlet.recorded.size() == (allowed ? 1 : 0));
    }
}

TEST_CASE("listen/acceptor: a refused peer may speak before it reads, for a second") {
    HttpWorld world(true);
    world.options.listeners[0].allow_uids = {::geteuid() + 1};
    world.start();
    auto client = world.connect();
    world.run_until([&] { return client.closed(); });
    CHECK(client.try_send(request("{}")) > 0);  // not closed: no EPIPE, no reset
    world.run_ready();
    CHECK(client.try_send(std::string(1000, 'x')) == 1000);
    CHECK(status_of(client.received) == 403);
    world.run_until([&] { return client.try_send("x") < 0; });  // a second later
    CHECK(world.inlet.recorded.empty());
}

TEST_CASE("listen/acceptor: of refused peers only so many are waited for, and so much is read") {
    HttpWorld world(true);
    world.options.listeners[0].allow_uids = {::geteuid() + 1};
    world.start();
    std::vector<Client> clients;
    for (std::size_t i = 0; i < kLingeringMax + 1; ++i) clients.push_back(world.connect());
    world.run_ready();
    CHECK(clients.front().try_send("x") == 1);
    CHECK(clients.back().try_send("x") < 0);
    CHECK(refused_peers(world) == kLingeringMax + 1);
    for (int i = 0; i < 64; ++i) {
        (void)clients.front().try_send(std::string(16'384, 'x'));
        world.run_ready();
    }
    CHECK(clients.front().try_send("x") < 0);
}

TEST_CASE("listen/acceptor: by one of its groups a peer is allowed, too") {
    HttpWorld world(true);
    world.options.listeners[0].allow_gids = {::getegid()};
    world.start();
    auto client = world.connect();
    CHECK(status_of(exchange(world, client, request("{}"))) == 200);
}

TEST_CASE("listen/datagram_source: senders that are not allowed are counted, not read") {
    for (const bool allowed : {true, false}) {
        CAPTURE(allowed);
        World world;
        world.add(ListenerKind::unix_datagram, "d.sock");
        world.options.listeners[0].allow_uids = {allowed ? ::geteuid() : ::geteuid() + 1};
        world.start();
        Client client(SOCK_DGRAM, world.address());
        client.send(world, "one\ntwo\n");
        const auto arrived = [&] {
            return world.inlet.recorded.size() == 2 || refused_peers(world) == 1;
        };
        world.run_until(arrived);
        CHECK(world.inlet.recorded.size() == (allowed ? 2 : 0));
        CHECK(refused_peers(world) == (allowed ? 0 : 1));
    }
}

TEST_CASE("listen/datagram_source: events over the rate are marked, those of others are not") {
    for (const auto kind : {ListenerKind::unix_datagram, ListenerKind::udp}) {
        CAPTURE(to_string(kind));
        World world;
        world.add(kind, kind == ListenerKind::udp ? "" : "d.sock");
        world.options.listeners[0].rate_limit = 2;
        world.start();
        int over = 0;
        world.inlet.decide = [&](const Message& message) {
            over += message.over_rate ? 1 : 0;
            return Offered{};
        };
        Client client(SOCK_DGRAM, world.address());
        client.send(world, "1\n2\n3\n4\n5\n");
        world.run_until([&] { return world.inlet.recorded.size() == 5; });
        CHECK(over == 3);
    }
}

TEST_CASE("listen/stream_session: a peer over its rate is read on after a while") {
    World world;
    world.add(ListenerKind::unix_stream, "s.sock");
    world.inlet.settle_at_once = true;
    world.options.listeners[0].rate_limit = 20;
    world.start();
    Client client(SOCK_STREAM, world.address());
    std::string lines;
    for (int i = 0; i < 25; ++i) lines += "x\n";
    client.send(world, lines);
    world.run_until([&] { return world.inlet.recorded.size() == 25; });
    client.send(world, "late\n");
    world.run_until([&] { return world.inlet.recorded.size() == 26; });
    client.finish();
    world.run_until([&] { return world.listeners->connections() == 0; });
}

TEST_CASE(
    "listen/stream_session: a peer over its rate is left unread, but a stop does not wait for it") {
    World world;
    world.add(ListenerKind::unix_stream, "s.sock");
    world.inlet.settle_at_once = true;
    world.options.listeners[0].rate_limit = 1;
    world.start();
    Client client(SOCK_STREAM, world.address());
    std::string lines;
    for (int i = 0; i < 1000; ++i) lines += "x\n";
    client.send(world, lines);
    world.run_until([&] { return world.inlet.recorded.size() == 1000; });
    client.send(world, "last\n");
    for (int i = 0; i < 20; ++i) world.io.run_one_for(milliseconds{2});
    CHECK(world.inlet.recorded.size() == 1000);
    world.stop(seconds{10});
    CHECK(world.inlet.recorded.size() == 1001);
}

TEST_CASE("listen/datagram_source: the first datagram, too, says who sent it") {
    World world;
    world.add(ListenerKind::unix_datagram, "d.sock");
    world.options.listeners[0].allow_uids = {::geteuid()};
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    const auto& path = world.options.listeners[0].path;
    REQUIRE(path.size() < sizeof where.sun_path);
    std::memcpy(where.sun_path, path.data(), path.size());
    // Tries all the time, so that it meets every new socket as soon as there is a path to it; then
    // it rests until the next one, or the relay would always have something to read.
    std::atomic<int> round{0};
    const std::jthread sender([&](const std::stop_token& stop) {
        const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        int met = 0;
        while (!stop.stop_requested()) {
            const int now = round;
            const bool sent = now != met && ::sendto(socket.get(), "one", 3, 0,
                                                     reinterpret_cast<const sockaddr*>(&where),
                                                     sizeof where) == 3;
            if (sent) met = now;
        }
    });
    std::uint64_t refused = 0;
    for (int i = 0; i < 1000; ++i) {
        world.inlet.recorded.clear();
        ++round;
        world.start();
        world.run_until([&] { return !world.inlet.recorded.empty() || refused_peers(world) > 0; });
        refused += refused_peers(world);
        world.stop(milliseconds{50});
    }
    CHECK(refused == 0);
}
