// What a pump makes of an upstream whose connections carry several requests.
#include <doctest/doctest.h>

#include "forward/pump_world.h"

using namespace opsrelay;
using namespace opsrelay::forward;
using namespace opsrelay::test;

namespace {

double depth_gauge(PumpWorld& world) {
    return world.registry.gauge(observe::kPipelineDepth, "default").value();
}

std::uint64_t requests(PumpWorld& world, const char* code) {
    return world.registry.counter(observe::kUpstreamRequests, "default", code).value();
}

}  // namespace

TEST_CASE("forward/pump_pipeline: as many in flight as the connections carry, as long as they do") {
    PumpWorld world;
    world.upstream.pipelines.depth = 4;
    world.start();
    world.run_for(seconds{30});  // the pump looks
    CHECK(depth_gauge(world) == 4);
    world.commit(500);
    CHECK(world.run_until_settled());
    CHECK(world.upstream.in_flight_max() == 32);
    CHECK(world.pump.status().concurrency == 32);
    CHECK(world.log.count("requests are pipelined again") == 1);

    world.upstream.pipelines = {1, "a connection broke", world.clock.now() + minutes{10}};
    world.commit(1);
    CHECK(world.run_until_settled());
    CHECK(depth_gauge(world) == 1);
    CHECK(world.pump.status().concurrency == 8);
    CHECK(world.log.count("requests are not pipelined for a while") == 1);
    CHECK(world.log.count("cause=\"a connection broke\"") == 1);

    world.upstream.pipelines = {4, "", TimePoint::max()};
    world.commit(500);
    CHECK(world.run_until_settled());
    CHECK(world.pump.status().concurrency == 32);
}

TEST_CASE("forward/pump_pipeline: an unanswered event goes again, and nobody has failed") {
    PumpWorld world;
    int lost = 0;
    world.upstream.choose = [&](std::string_view) -> std::optional<Step> {
        if (++lost % 2 == 1) return std::nullopt;
        auto step = broken(Transport::unanswered);
        step.commit = lost % 4 == 0;  // upstream may have it
        return step;
    };
    world.commit(200);
    world.start();
    CHECK(world.run_until_settled(seconds{30}));
    CHECK(world.totals.delivered == 200);
    CHECK(world.upstream.rows().size() == 200);
    CHECK(requests(world, "unanswered") > 0);
    CHECK(requests(world, "unanswered") + requests(world, "200") ==
          world.upstream.requests().size());
    CHECK(world.pump.status().last_error.empty());
    CHECK(world.log.count("backing_off") == 0);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_pipeline: a lane that is half open sends one request, whatever the depth") {
    PumpWorld world;
    world.upstream.pipelines.depth = 16;
    world.upstream.otherwise(answer(503));
    world.commit(100);
    world.start();
    world.run_for(minutes{30});
    CHECK(world.upstream.in_flight_max() == 1);
    CHECK(world.upstream.requests().size() > 10);
}

TEST_CASE("forward/pump_pipeline: a stop with many under way loses nothing") {
    PumpWorld world;
    world.upstream.pipelines.depth = 16;
    world.start();
    world.run_for(seconds{30});
    world.commit(300);
    CHECK(world.run_until_settled());
    world.upstream.otherwise(hang());
    world.commit(300);
    world.run_for(seconds{1});
    CHECK(world.upstream.in_flight() == 128);
    world.stop(seconds{1});
    CHECK(world.settler.spooled() == 300);
    CHECK(world.balanced());
}
