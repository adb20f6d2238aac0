#include "upstream/service.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/pointer.h>

#include <string>

#include "upstream/test_server.h"

namespace opsrelay::upstream {

namespace {

/// A service with one line per request.
struct Fixture {
    explicit Fixture(Settings settings = {}) : service(settings, clock) {}

    Reply post(std::string_view body, std::string_view key = "k") {
        return service.handle(Port::ingest, {"POST", "/v1/ingest/llm-request", key, body});
    }
    Reply get(std::string_view target) {
        return service.handle(Port::ingest, {"GET", target, "k", {}});
    }
    void control(std::string_view json) {
        const auto reply = service.handle(Port::control, {"POST", "/control", {}, json});
        CAPTURE(reply.body);
        REQUIRE(reply.status == 200);
    }
    [[nodiscard]] std::int64_t stat(std::string_view name) const {
        rapidjson::Document stats;
        stats.Parse(service.stats_json().c_str());
        const auto path = fmt::format("/{}", name);
        const auto* value = rapidjson::Pointer(path.c_str()).Get(stats);
        return value == nullptr ? 0 : value->GetInt64();
    }

    SystemClock clock;
    Service service;
};

}  // namespace

TEST_CASE("upstream/service: a repeat gets the same reply and makes no second row") {
    Fixture api;
    const auto first = api.post(event("a"));
    const auto second = api.post(event("a"));
    CHECK(first.status == 200);
    CHECK(second.status == 200);
    CHECK(first.body == second.body);
    CHECK(api.post(event("b")).status == 200);
    CHECK(api.stat("rows") == 2);
    CHECK(api.stat("requests") == 3);
    CHECK(api.stat("repeated") == 1);
    CHECK(api.stat("repeated_different") == 0);
}

TEST_CASE("upstream/service: the first or the last content of an id wins") {
    for (const bool last : {false, true}) {
        CAPTURE(last);
        Settings settings;
        settings.behaviour.conflict = last ? Conflict::last_wins : Conflict::first_wins;
        Fixture api(settings);
        CHECK(api.post(event("a", 1)).status == 200);
        CHECK(api.post(event("a", 2)).status == 200);
        CHECK(api.stat("repeated_different") == 1);
        REQUIRE(api.service.rows().size() == 1);
        CHECK(api.service.rows().body(0) == event("a", last ? 2 : 1));
    }
}

TEST_CASE("upstream/service: a success has the documented fields") {
    Settings settings;
    settings.behaviour.plan = {"Starter", 100'000, 58'749, "", ""};
    settings.behaviour.budget.daily = {10, 9, "", ""};
    Fixture api(settings);
    CHECK(
        api.post(event("a")).body ==
        R"({"ok":true,"planTier":"Starter","warnings":[],"reason":null,"telemetryPaused":false,)"
        R"("providerCallsContinue":true,"isPlanLimitReached":false,"budgetWarning":true,)"
        R"("budgetExceeded":false,"planLimitRequests":100000,"freeLimitRemainingRequests":41250})");
}

TEST_CASE("upstream/service: keys are checked before anything is stored") {
    Fixture api;
    CHECK(api.post(event("a"), "").status == 401);
    CHECK(api.post(event("a"), "anything").status == 200);
    api.control(R"({"api_keys":["one","two"]})");
    CHECK(api.post(event("b"), "three").status == 401);
    CHECK(api.post(event("b"), "three").body ==
          R"({"ok":false,"reason":"invalid_api_key","warnings":[]})");
    CHECK(api.post(event("b"), "two").status == 200);
    CHECK(api.get("/v1/diagnostics/workspace-status").status == 401);
    CHECK(api.stat("rows") == 2);
}

TEST_CASE("upstream/service: the plan's limit pauses, and a larger one resumes") {
    Settings settings;
    settings.behaviour.plan = {"Free", 2, 0, "", ""};
    Fixture api(settings);
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("a")).status == 200);  // a repeat does not count
    CHECK(api.post(event("b")).status == 200);
    const auto blocked = api.post(event("c"));
    CHECK(blocked.status == 402);
    CHECK(blocked.body ==
          R"({"ok":false,"reason":"plan_limit_reached","telemetryPaused":true,)"
          R"("providerCallsContinue":true,"isPlanLimitReached":true,"planTier":"Free",)"
          R"("planLimitRequests":2,"freeLimitRemainingRequests":0,"budgetWarning":false,)"
          R"("budgetExceeded":false,"warnings":[]})");
    CHECK(api.stat("plan_blocked") == 1);
    api.control(R"({"plan":{"limit":3}})");
    CHECK(api.post(event("c")).status == 200);
    CHECK(api.stat("rows") == 3);
}

TEST_CASE("upstream/service: repeats count against the plan when told so") {
    Settings settings;
    settings.behaviour.plan = {"Free", 2, 0, "", ""};
    settings.behaviour.count_duplicates = true;
    Fixture api(settings);
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 402);
}

TEST_CASE("upstream/service: a budget stops by switch or by spending") {
    Fixture api;
    api.control(R"({"budget":{"stop":"always","reason":"spend_cap"},"plan":{"name":"Pro"}})");
    CHECK(api.post(event("a")).body ==
          R"({"ok":false,"reason":"spend_cap","telemetryPaused":false,)"
          R"("providerCallsContinue":true,"isPlanLimitReached":false,"planTier":"Pro",)"
          R"("budgetWarning":true,"budgetExceeded":true,"warnings":[]})");
    // An event of gpt-4o with 10 and 5 tokens costs 0.000075 USD.
    api.control(R"({"budget":{"stop":"exceeded","monthly":{"limit_usd":0.0001}}})");
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 200);
    CHECK(api.post(event("c")).status == 402);
    api.control(R"({"budget":{"stop":"off"}})");
    CHECK(api.post(event("c")).status == 200);
    CHECK(api.stat("budget_blocked") == 2);
}

TEST_CASE("upstream/service: validation answers 400 or 422 with the fields") {
    Fixture api;
    const auto refused = api.post(R"({"externalRequestId":"a","provider":"openai","model":"m",)"
                                  R"("inputTokens":1,"outputTokens":1,"status":"ok"})");
    CHECK(refused.status == 400);
    CHECK(refused.body == R"({"ok":false,"reason":"validation_failed","errors":[{"field":"status",)"
                          R"("message":"must be success or error"}],"warnings":[]})");
    api.control(R"({"validation_status":422})");
    CHECK(api.post("{}").status == 422);
    CHECK(api.stat("missing_id") == 1);
    api.control(R"({"lenient":true})");
    CHECK(api.post(R"({"status":"error"})").status == 200);
    CHECK(api.stat("missing_id") == 2);
    CHECK(api.stat("rows") == 1);
}

TEST_CASE("upstream/service: workspace-status has the documented shape") {
    Settings settings;
    settings.behaviour.plan = {"Pro", 500'000, 123'456, "2026-04-01T00:00:00Z",
                               "2026-04-30T23:59:59Z"};
    settings.behaviour.budget.daily = {40, 43.2, "2026-04-11T00:00:00Z", "2026-04-11T23:59:59Z"};
    settings.behaviour.budget.monthly = {900, 612.5, "2026-04-01T00:00:00Z",
                                         "2026-04-30T23:59:59Z"};
    Fixture api(settings);
    CHECK(api.get("/prefix//v1/diagnostics/workspace-status").body ==
          R"({"workspaceId":"3b0f6b0e-6a0c-4a54-8a3f-0d7b1c9e2f44","isPlanLimitReached":false,)"
          R"("telemetryPaused":false,"providerCallsContinue":true,"isBudgetWarning":true,)"
          R"("isBudgetExceeded":true,"severity":"critical","plan":{"planTier":"pro",)"
          R"("planName":"Pro","currentRequestCount":123456,"planRequestLimit":500000,)"
          R"("remainingRequestCount":376544,"isPlanLimitReached":false,"telemetryPaused":false,)"
          R"("periodStart":"2026-04-01T00:00:00Z","periodEnd":"2026-04-30T23:59:59Z"},)"
          R"("budget":{"warningThresholdRatio":0.8,"daily":{"limitUsd":40,"currentSpendUsd":43.2,)"
          R"("utilizationRatio":1.08,"isWarning":true,"isExceeded":true,"period":"daily",)"
          R"("periodStart":"2026-04-11T00:00:00Z","periodEnd":"2026-04-11T23:59:59Z"},)"
          R"("monthly":{"limitUsd":900,"currentSpendUsd":612.5,"utilizationRatio":0.6806,)"
          R"("isWarning":false,"isExceeded":false,"period":"monthly",)"
          R"("periodStart":"2026-04-01T00:00:00Z","periodEnd":"2026-04-30T23:59:59Z"}}})");
    api.control(R"({"plan":{"used":500000}})");
    CHECK(api.get("/v1/diagnostics/workspace-status").body.find(R"("telemetryPaused":true)") !=
          std::string::npos);
}

TEST_CASE("upstream/model: periods default to the current UTC day and month") {
    const Behaviour behaviour;
    const Workspace workspace({1, Bytes{100}, true}, behaviour);
    const WallTime leap_day{seconds{1709208000}};  // 2024-02-29T12:00:00Z
    const auto status = workspace.status_json(leap_day);
    CHECK(
        status.find(R"("periodStart":"2024-02-01T00:00:00Z","periodEnd":"2024-02-29T23:59:59Z")") !=
        std::string::npos);
    CHECK(
        status.find(R"("periodStart":"2024-02-29T00:00:00Z","periodEnd":"2024-02-29T23:59:59Z")") !=
        std::string::npos);
}

TEST_CASE("upstream/service: rows are bounded") {
    Settings settings;
    settings.rows_max = 2;
    Fixture api(settings);
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 200);
    CHECK(api.post(event("c")).status == 503);
    CHECK(api.post(event("a")).status == 200);  // a repeat needs no room
    CHECK(api.stat("full") == 1);
    const auto cleared = api.service.handle(Port::control, {"DELETE", "/rows", {}, {}});
    CHECK(cleared.status == 200);
    CHECK(api.stat("requests") == 0);
    CHECK(api.post(event("c")).status == 200);
}

TEST_CASE("upstream/row_table: many ids stay distinct as the table grows") {
    RowTable rows({100'000, Bytes{1U << 30U}, true});
    for (int i = 0; i < 20'000; ++i) {
        REQUIRE(rows.insert(std::to_string(i), "x", false) == RowTable::Inserted::added);
    }
    for (int i = 0; i < 20'000; ++i) {
        REQUIRE(rows.insert(std::to_string(i), "x", false) == RowTable::Inserted::same);
    }
    CHECK(rows.insert("7", "y", false) == RowTable::Inserted::different);
    CHECK(rows.size() == 20'000);
    CHECK(rows.id(0) == "0");
    CHECK(rows.id(19'999) == "19999");
    CHECK(rows.body(3).empty());
    CHECK(rows.contains("12345"));
    CHECK_FALSE(rows.contains("20000"));
    rows.clear();
    CHECK_FALSE(rows.contains("1"));
}

TEST_CASE("upstream/service: unknown paths and wrong methods") {
    Fixture api;
    CHECK(api.get("/nothing").status == 404);
    CHECK(api.get("/v1/ingest/llm-request").status == 405);
    CHECK(api.get("/v1/ingest/llm-request").extra_headers == "Allow: POST\r\n");
    CHECK(api.get("/v1/public/pricing-models").status == 200);
    CHECK(api.get("/control").status == 404);  // on the control port only
    CHECK(api.get("/rows?ids=1&limit=x").status == 400);
    CHECK(api.service.handle(Port::control, {"POST", "/v1/ingest/llm-request", "k", {}}).status ==
          404);
    CHECK(api.service.handle(Port::control, {"POST", "/control", {}, "{\"x\":1}"}).status == 400);
}

}  // namespace opsrelay::upstream
