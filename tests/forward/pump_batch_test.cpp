// The pump of an upstream that takes several events in one request.
#include <algorithm>
#include <set>

#include "forward/batch_body.h"
#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::answer;
using test::event;
using test::PumpWorld;

Options batches(unsigned events_max = 10) {
    Options options;
    options.kind = UpstreamKind::batch;
    options.batch.events_max = events_max;
    return options;
}

std::vector<std::size_t> sizes(const PumpWorld& world) {
    std::vector<std::size_t> found;
    for (const auto& batch : world.upstream.batches()) found.push_back(batch.size());
    return found;
}

bool holds(const std::vector<std::string>& events, std::uint64_t n) {
    return std::find(events.begin(), events.end(), event(n)) != events.end();
}

}  // namespace

TEST_CASE("forward/pump_batch: a full batch goes at once, the rest when its first has waited") {
    PumpWorld world(batches());
    world.commit(25);
    world.start();
    world.run_for(milliseconds{900});
    CHECK(sizes(world) == std::vector<std::size_t>{10, 10});
    REQUIRE(world.run_until_settled(seconds{2}));
    CHECK(sizes(world) == std::vector<std::size_t>{10, 10, 5});
    CHECK(world.upstream.rows().size() == 25);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_batch: bytes fill a batch too, and an event that is larger goes alone") {
    auto options = batches(100);
    options.batch.bytes_max = Bytes{3 * (event(1).size() + 1) + 1};
    PumpWorld world(options);
    world.commit(9);
    world.start();
    REQUIRE(world.run_until_settled(seconds{5}));
    CHECK(sizes(world) == std::vector<std::size_t>{3, 3, 3});
    for (const auto& batch : world.upstream.batches()) {
        const std::vector<std::string_view> events(batch.begin(), batch.end());
        for (const auto format : {BatchFormat::ndjson, BatchFormat::array}) {
            const auto body = encode_batch(events, format, BatchCoding::none);
            CHECK(body.size() <= options.batch.bytes_max.count);
        }
    }

    options.batch.bytes_max = Bytes{1};
    PumpWorld small(options);
    small.commit(3);
    small.start();
    REQUIRE(small.run_until_settled(seconds{5}));
    CHECK(sizes(small) == std::vector<std::size_t>{1, 1, 1});
}

TEST_CASE("forward/pump_batch: a batch that the lane's bounds keep small does not wait for more") {
    auto options = batches(100);
    options.batch.linger = minutes{1};
    SUBCASE("records in flight") { options.in_flight_max = 10; }
    SUBCASE("bytes in memory") {}
    PumpWorld world(options);
    if (options.in_flight_max > 10) world.pump.set_held_max(Bytes{10 * event(1).size()});
    for (int i = 0; i < 50; ++i) world.commit(10);
    world.start();
    world.run_for(seconds{30});
    CHECK(world.totals.delivered >= 490);  // the last ones may wait
    REQUIRE(world.run_until_settled(minutes{2}));
}

TEST_CASE("forward/pump_batch: each event ends as its result says") {
    PumpWorld world(batches());
    bool again = false;
    world.upstream.choose = [&](std::string_view body) -> std::optional<test::Step> {
        if (body == event(3)) return answer(400);
        if (body == event(4) && !std::exchange(again, true)) return answer(500);
        return std::nullopt;
    };
    world.commit(10);
    world.start();
    REQUIRE(world.run_until_settled(minutes{5}));
    CHECK(world.totals.delivered == 9);
    CHECK(world.totals.dead == 1);
    CHECK(world.upstream.batches().size() == 2);
    CHECK(world.upstream.batches().back() == std::vector{event(4)});
    CHECK(world.pump.status().state == LaneState::active);
}

TEST_CASE("forward/pump_batch: a batch that is refused whole is halved down to the bad event") {
    for (const int status : {400, 413, 422}) {
        CAPTURE(status);
        PumpWorld world(batches(64));
        world.upstream.choose_batch = [&](const std::vector<std::string>& events) {
            return holds(events, 37) ? std::optional(answer(status)) : std::nullopt;
        };
        world.commit(64);
        world.start();
        REQUIRE(world.run_until_settled(minutes{5}));
        CHECK(world.totals.delivered == 63);
        CHECK(world.totals.dead == 1);
        CHECK(world.upstream.rows().count(event(37)) == 0);
        // One refusal for each halving, and a request for each other half.
        CHECK(world.upstream.batches().size() <= 2 * 7 + 1);
    }
}

TEST_CASE("forward/pump_batch: after 413 no batch is as large again") {
    auto options = batches(1000);
    PumpWorld world(options);
    const auto bytes_of = [](const std::vector<std::string>& events) {
        std::size_t bytes = 0;
        for (const auto& one : events) bytes += one.size();
        return bytes;
    };
    constexpr std::size_t kTaken = 100'000;
    std::size_t refused = 0;
    world.upstream.choose_batch = [&](const std::vector<std::string>& events) {
        const bool large = bytes_of(events) > kTaken;
        refused += large ? 1 : 0;
        return large ? std::optional(answer(413)) : std::nullopt;
    };
    world.commit(1000);
    world.commit(1000);
    world.commit(1000);
    world.start();
    REQUIRE(world.run_until_settled(minutes{5}));
    CHECK(world.totals.delivered == 3000);
    CHECK(refused == 0);  // 1000 events have about 60 KB

    options.batch.events_max = 4000;
    PumpWorld larger(options);
    refused = 0;
    larger.upstream.choose_batch = world.upstream.choose_batch;
    for (int i = 0; i < 8; ++i) larger.commit(1000);
    larger.start();
    REQUIRE(larger.run_until_settled(minutes{5}));
    CHECK(larger.totals.delivered == 8000);
    CHECK(refused >= 1);
    CHECK(refused <= 8);  // those in flight when the first one was refused
}

TEST_CASE("forward/pump_batch: an event that makes whole batches fail is found and tried alone") {
    PumpWorld world(batches(32));
    world.upstream.choose_batch = [&](const std::vector<std::string>& events) {
        return holds(events, 5) ? std::optional(answer(500)) : std::nullopt;
    };
    world.commit(320);
    world.start();
    const bool rest = world.clock.run_until(
        world.io, [&] { return world.settler.spooled() == 1; }, world.clock.now() + hours{2});
    CHECK(rest);
    CHECK(world.totals.delivered == 319);
    world.upstream.choose_batch = nullptr;
    REQUIRE(world.run_until_settled(hours{1}));
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_batch: 200 without results keeps every event, and probes with one") {
    for (const auto* const body : {"", R"({"ok":true})", "<html>sign in</html>"}) {
        CAPTURE(body);
        PumpWorld world(batches());
        world.upstream.script({answer(200, body)});
        world.commit(10);
        world.start();
        world.run_for(seconds{5});
        CHECK(world.pump.status().state == LaneState::misconfigured);
        CHECK(world.totals.delivered == 0);
        REQUIRE(world.run_until_settled(hours{1}));
        CHECK(sizes(world)[1] == 1);
        CHECK(world.totals.delivered == 10);
    }
}

TEST_CASE(
    "forward/pump_batch: a limit that some events meet parks the lane; the others are through") {
    PumpWorld world(batches());
    bool limited = true;
    world.upstream.choose = [&](std::string_view body) -> std::optional<test::Step> {
        if (limited && (body == event(9) || body == event(10))) {
            return answer(429);
        }
        return std::nullopt;
    };
    world.commit(10);
    world.start();
    world.run_for(milliseconds{500});
    CHECK(world.pump.status().state == LaneState::throttled);
    CHECK(world.totals.delivered == 8);
    limited = false;
    REQUIRE(world.run_until_settled(minutes{10}));
    CHECK(world.totals.delivered == 10);
}

TEST_CASE("forward/pump_batch: refusals beside deliveries are the events' own, however many") {
    PumpWorld world(batches(40));
    world.upstream.choose = [&](std::string_view body) -> std::optional<test::Step> {
        if (body == event(1) || body == event(40)) return std::nullopt;
        return answer(400);
    };
    world.commit(40);
    world.start();
    REQUIRE(world.run_until_settled(minutes{1}));
    CHECK(world.totals.dead == 38);
    CHECK(world.totals.replayed == 0);
    CHECK(world.pump.status().state == LaneState::active);
}

TEST_CASE("forward/pump_batch: an upstream that refuses every event gets none of them as dead") {
    PumpWorld world(batches(40));
    world.upstream.otherwise(answer(400));
    world.commit(40);
    world.start();
    world.run_for(minutes{30});
    CHECK(world.pump.status().state == LaneState::misconfigured);
    CHECK(world.settler.spooled() >= 39);
    world.upstream.otherwise(test::accept());
    REQUIRE(world.run_until_settled(hours{2}));
    CHECK(world.upstream.rows().size() >= 39);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_batch: what waits for company stays in the spool when the process ends") {
    PumpWorld world(batches());
    world.commit(3);
    world.start();
    world.run_for(milliseconds{100});
    world.stop(seconds{1});
    CHECK(world.upstream.batches().empty());
    CHECK(world.settler.spooled() == 3);
}

}  // namespace opsrelay::forward
