#include <doctest/doctest.h>

#include <string>

#include "listen/http_rules.h"
#include "listen/http_status.h"
#include "listen/http_world.h"

using namespace opsrelay;
using namespace opsrelay::listen;
using namespace opsrelay::listen::testing;

namespace {

constexpr const char* kStatus = "/v1/diagnostics/workspace-status";
constexpr LaneId kEurope{3};

struct LanesWorld : HttpWorld {
    LanesWorld() { options.lanes = {{kDefaultLane, "default"}, {kEurope, "europe"}}; }
};

}  // namespace

TEST_CASE("listen/http_rules: a path is a prefix, perhaps a lane, and what is asked for") {
    struct Case {
        const char* path;
        HttpTarget target;
        const char* lane;  // nullptr: none
    };
    const Case cases[] = {
        {"/v1/ingest/llm-request", HttpTarget::event, nullptr},
        {"/any/prefix//v1/ingest/llm-request/?a=b", HttpTarget::event, nullptr},
        {"/lanes/eu/v1/ingest/llm-request", HttpTarget::event, "eu"},
        {"//lanes//eu//v1/ingest/batch", HttpTarget::batch, "eu"},
        {"/prefix/lanes/eu/v1/diagnostics/workspace-status", HttpTarget::workspace_status, "eu"},
        {"/lanes/eu/more/v1/ingest/llm-request", HttpTarget::event, nullptr},
        {"/lanes/v1/ingest/llm-request", HttpTarget::event, nullptr},
        {"/xlanes/eu/v1/ingest/llm-request", HttpTarget::event, nullptr},
        {"/lanes/eu", HttpTarget::unknown, nullptr},
        {"", HttpTarget::unknown, nullptr},
        {"*", HttpTarget::unknown, nullptr},
    };
    for (const auto& test : cases) {
        CAPTURE(test.path);
        const auto route = route_of(test.path);
        CHECK(route.target == test.target);
        CHECK(route.lane.has_value() == (test.lane != nullptr));
        if (test.lane != nullptr) CHECK(route.lane.value_or("") == test.lane);
    }
}

TEST_CASE("listen/http_session: a path may name the lane, and an unknown one is told which exist") {
    LanesWorld world;
    world.plans.of(kEurope).set({"Pro", true, false, false, false});
    world.start();
    auto client = world.connect();
    const auto there =
        exchange(world, client, request("{}", "", "/lanes/europe/v1/ingest/llm-request"));
    CHECK(status_of(there) == 200);
    CHECK(has(there, R"("planTier":"Pro")"));
    const auto here = exchange(world, client, request("{}", "", "/x/v1/ingest/llm-request"));
    CHECK(has(here, R"("planTier":null)"));
    const auto batch =
        exchange(world, client, request("[{},{}]", "", "/lanes/europe/v1/ingest/batch"));
    CHECK(status_of(batch) == 200);
    REQUIRE(world.inlet.recorded.size() == 4);
    CHECK(world.inlet.recorded[0].origin.lane == kEurope);
    CHECK(world.inlet.recorded[1].origin.lane == kDefaultLane);
    CHECK(world.inlet.recorded[2].origin.lane == kEurope);
    CHECK(world.inlet.recorded[3].origin.lane == kEurope);
    const auto unknown =
        exchange(world, client, request("{}", "", "/lanes/asia/v1/ingest/llm-request"));
    CHECK(status_of(unknown) == 404);
    CHECK(has(unknown, R"("reason":"unknown_lane")"));
    CHECK(has(unknown, "there are default, europe"));
    CHECK_FALSE(has(unknown, "asia"));
    CHECK(world.inlet.recorded.size() == 4);
}

TEST_CASE("listen/http_session: workspace-status is read, and nothing else is done to it") {
    LanesWorld world;
    world.start();
    auto client = world.connect();
    const auto reply = exchange(world, client, request("", "", kStatus, "GET"));
    CHECK(status_of(reply) == 200);
    CHECK(has(reply, R"("stale":true)"));
    const auto post = exchange(world, client, request("{}", "", kStatus));
    CHECK(status_of(post) == 405);
    CHECK(has(post, "Allow: GET, HEAD\r\n"));
    CHECK(has(post, R"("message":"use GET")"));
    CHECK(world.inlet.recorded.empty());
    client.received.clear();
    client.send(world, request("", "Connection: close\r\n", kStatus, "HEAD"));
    world.run_until([&] { return client.closed(); });
    CHECK(status_of(client.received) == 200);
    CHECK(body_of(client.received).empty());
}

TEST_CASE("listen/http_status: upstream's words while they are fresh, then our own view") {
    const TimePoint then{seconds{1000}};
    const WorkspaceAnswer answer{
        R"({"isPlanLimitReached":false,"telemetryPaused":false,"plan":{"planTier":"pro",)"
        R"("isPlanLimitReached":false},"budget":{"daily":{"currentSpendUsd":1.50}},"more":[1]})",
        then};
    const PlanFields plan{"Starter", true, true, true, false};
    const auto fresh = workspace_reply(plan, answer, then + seconds{59});
    CHECK(fresh.status == 200);
    CHECK(fresh.body == answer.body);
    const auto stale = workspace_reply(plan, answer, then + seconds{60}).body;
    for (const char* part :
         {R"("isPlanLimitReached":true,"telemetryPaused":true,"plan":{"planTier":"Starter",)"
          R"("isPlanLimitReached":true,"telemetryPaused":true})",
          R"("budget":{"daily":{"currentSpendUsd":1.5}})", R"("more":[1])",
          R"("isBudgetWarning":true)", R"("isBudgetExceeded":false)", R"("severity":"critical")",
          R"("stale":true)"}) {
        CAPTURE(part);
        CHECK_MESSAGE(has(stale, part), stale);
    }
    const auto own = workspace_reply({}, std::nullopt, then).body;
    for (const char* part :
         {R"("isPlanLimitReached":false)", R"("telemetryPaused":false)",
          R"("providerCallsContinue":true)", R"("isBudgetWarning":false)",
          R"("isBudgetExceeded":false)", R"("severity":"normal")",
          R"("budget":{"daily":{"currentSpendUsd":null},"monthly":{"currentSpendUsd":null}})",
          R"("stale":true)"}) {
        CAPTURE(part);
        CHECK_MESSAGE(has(own, part), own);
    }
    CHECK(has(workspace_reply({"", false, false, true, false}, std::nullopt, then).body,
              R"("severity":"warning")"));
}

TEST_CASE("listen/http_status: an old answer that goes too deep is not gone down into") {
    const std::string deep(30'000, '[');
    const WorkspaceAnswer answer{"{\"a\":" + deep + std::string(30'000, ']') + "}", TimePoint{}};
    const auto reply = workspace_reply({}, answer, TimePoint{seconds{1000}});
    CHECK(reply.body.size() < 1000);
    CHECK(has(reply.body, R"("stale":true)"));
}
