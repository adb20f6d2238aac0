// How many requests a pump has in flight, as its upstream bears them.
#include <doctest/doctest.h>

#include "forward/pump_world.h"

using namespace opsrelay;
using namespace opsrelay::forward;
using namespace opsrelay::test;

namespace {

Options options_of(ConcurrencyMode mode) {
    Options options;
    options.concurrency = mode;
    return options;
}

double gauge(PumpWorld& world) {
    return world.registry.gauge(observe::kLaneConcurrency, "default").value();
}

/// Every request waits for those before it.
void queue_up(PumpWorld& world, milliseconds service) {
    world.upstream.choose = [&world, service](std::string_view) {
        auto step = accept();
        step.latency = service * (world.upstream.in_flight() + 1);
        return std::optional(step);
    };
}

}  // namespace

TEST_CASE("forward/pump: a healthy upstream gets all its connections, and status says so") {
    for (const auto mode : {ConcurrencyMode::adaptive, ConcurrencyMode::fixed}) {
        PumpWorld world(options_of(mode));
        world.commit(500);
        world.start();
        CHECK(world.run_until_settled());
        CHECK(world.upstream.in_flight_max() == 8);
        CHECK(world.pump.status().concurrency == 8);
        CHECK(gauge(world) == 8);
    }
}

TEST_CASE("forward/pump: fewer requests at a time while they wait for each other") {
    for (const auto mode : {ConcurrencyMode::adaptive, ConcurrencyMode::fixed}) {
        const bool adaptive = mode == ConcurrencyMode::adaptive;
        CAPTURE(adaptive);
        PumpWorld world(options_of(mode));
        world.upstream.otherwise([] {
            auto step = accept();
            step.latency = milliseconds{20};
            return step;
        }());
        world.start();
        world.commit(500);
        CHECK(world.run_until_settled());
        queue_up(world, milliseconds{20});
        world.commit(300);
        CHECK(world.run_until_settled());
        const auto limit = world.pump.status().concurrency;
        if (adaptive) {
            CHECK(limit < 8);
        } else {
            CHECK(limit == 8);
        }
        CHECK(gauge(world) == static_cast<double>(limit));
        CHECK((world.log.count("fewer requests at a time") > 0) == adaptive);
        CHECK(world.totals.delivered == 800);
        // It ends with its cause.
        world.upstream.choose = nullptr;
        world.commit(2000);
        CHECK(world.run_until_settled());
        CHECK(world.pump.status().concurrency == 8);
        CHECK(world.balanced());
    }
}

TEST_CASE("forward/pump: a 429 is answered with fewer requests at a time, not only with a wait") {
    PumpWorld world(options_of(ConcurrencyMode::adaptive));
    world.commit(100);
    world.start();
    CHECK(world.run_until_settled());
    world.upstream.script(std::vector<Step>(8, answer(429)));
    world.commit(8);
    world.run_for(milliseconds{500});
    CHECK(world.pump.status().state == LaneState::throttled);
    CHECK(world.pump.status().concurrency == 1);  // the probe
    world.commit(4);
    CHECK(world.run_until_settled());
    CHECK(world.pump.status().state == LaneState::active);
    CHECK(world.pump.status().concurrency < 8);
    CHECK(world.log.count("fewer requests at a time") == 1);
    CHECK(world.upstream.in_flight_max() == 8);
    world.commit(1000);
    CHECK(world.run_until_settled());
    CHECK(world.pump.status().concurrency == 8);
    CHECK(world.totals.delivered == 1112);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: a batch counts as its heaviest result") {
    auto options = options_of(ConcurrencyMode::adaptive);
    options.kind = UpstreamKind::batch;
    options.batch.events_max = 2;
    options.batch.linger = milliseconds{0};
    PumpWorld world(options);
    world.commit(100);
    world.start();
    CHECK(world.run_until_settled());
    CHECK(world.pump.status().concurrency == 8);
    int left = 1;
    world.upstream.choose = [&left](std::string_view) -> std::optional<Step> {
        if (left-- > 0) return answer(429);
        return std::nullopt;
    };
    world.commit(20);
    CHECK(world.run_until_settled());
    CHECK(world.pump.status().concurrency < 8);
    CHECK(world.log.count("fewer requests at a time") == 1);
    CHECK(world.totals.delivered == 120);
}

TEST_CASE("forward/pump: a stop while fewer requests may be in flight leaves nothing behind") {
    PumpWorld world(options_of(ConcurrencyMode::adaptive));
    world.upstream.script(std::vector<Step>(8, answer(429)));
    world.commit(1000);
    world.start();
    world.run_for(seconds{3});
    world.stop(milliseconds{1});
    CHECK(world.balanced());
    world.pump.clear_metrics();
    CHECK(gauge(world) == 0);
}
