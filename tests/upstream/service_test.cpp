#include "upstream/service.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "upstream/service_fixture.h"

namespace opsrelay::upstream {

TEST_CASE("upstream/service: a repeat gets the same reply and makes no second row") {
    ServiceFixture api;
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
        ServiceFixture api(settings);
        CHECK(api.post(event("a", 1)).status == 200);
        CHECK(api.post(event("a", 2)).status == 200);
        CHECK(api.stat("repeated_different") == 1);
        REQUIRE(api.service.rows().size() == 1);
        CHECK(api.service.rows().body(0) == event("a", last ? 2 : 1));
    }
}

TEST_CASE("upstream/service: a success has the documented fields") {
    ServiceFixture api(R"({"plan":{"name":"Starter","used":58749},)"
                       R"("budget":{"daily":{"limit_usd":10,"spend_usd":9}}})");
    CHECK(
        api.post(event("a")).body ==
        R"({"ok":true,"planTier":"Starter","warnings":[],"reason":null,"telemetryPaused":false,)"
        R"("providerCallsContinue":true,"isPlanLimitReached":false,"budgetWarning":true,)"
        R"("budgetExceeded":false,"planLimitRequests":100000,"freeLimitRemainingRequests":41250})");
}

TEST_CASE("upstream/service: keys are checked before anything is stored") {
    ServiceFixture api;
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
    ServiceFixture api(R"({"plan":{"name":"Free","limit":2}})");
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
    ServiceFixture api(R"({"plan":{"name":"Free","limit":2},"count_duplicates":true})");
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 402);
}

TEST_CASE("upstream/service: a budget stops by switch or by spending") {
    ServiceFixture api;
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
    ServiceFixture api;
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
    ServiceFixture api(R"({"clock":{"set":"2026-04-11T08:00:00Z"},"plan":{"name":"Pro",)"
                       R"("used":123456},"budget":{"daily":{"limit_usd":40,"spend_usd":43.2},)"
                       R"("monthly":{"limit_usd":900,"spend_usd":612.5}}})");
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

TEST_CASE("upstream/service: rows are bounded") {
    Settings settings;
    settings.rows_max = 2;
    ServiceFixture api(settings);
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 200);
    CHECK(api.post(event("c")).status == 503);
    CHECK(api.post(event("a")).status == 200);  // a repeat needs no room
    CHECK(api.stat("full") == 1);
    const auto cleared = api.handle(Port::control, {"DELETE", "/rows", {}, {}, {}, {}, {}});
    CHECK(cleared.status == 200);
    CHECK(api.stat("requests") == 0);
    CHECK(api.post(event("c")).status == 200);
}

TEST_CASE("upstream/service: unknown paths and wrong methods") {
    ServiceFixture api;
    CHECK(api.get("/nothing").status == 404);
    CHECK(api.get("/v1/ingest/llm-request").status == 405);
    CHECK(api.get("/v1/ingest/llm-request").extra_headers == "Allow: POST\r\n");
    CHECK(api.get("/v1/public/pricing-models").status == 200);
    CHECK(api.get("/control").status == 404);  // on the control port only
    CHECK(api.get("/rows?ids=1&limit=x").status == 400);
    const Request misdirected{"POST", "/v1/ingest/llm-request", "k", {}, {}, {}, {}};
    CHECK(api.handle(Port::control, misdirected).status == 404);
}

TEST_CASE("upstream/service: a repeat is answered as the switch says") {
    ServiceFixture api(R"({"duplicate_reply":"flagged"})");
    CHECK(api.post(event("a")).body.find("duplicate") == std::string::npos);
    const auto flagged = api.post(event("a"));
    CHECK(flagged.status == 200);
    CHECK(flagged.body.ends_with(R"(,"duplicate":true})"));
    api.control(R"({"duplicate_reply":"status_409"})");
    const auto refused = api.post(event("a"));
    CHECK(refused.status == 409);
    CHECK(refused.body == R"({"ok":false,"reason":"duplicate_request","warnings":[]})");
    CHECK(api.stat("rows") == 1);
    CHECK(api.stat("repeated") == 2);
}

TEST_CASE("upstream/service: its own rate limit answers 429 with each form of Retry-After") {
    struct Case {
        const char* form;
        const char* header;
    };
    const Case cases[] = {
        {"seconds", "Retry-After: 4\r\n"},
        {"imf_fixdate", "Retry-After: Wed, 29 Apr 2026 12:00:04 GMT\r\n"},
        {"rfc850", "Retry-After: Wednesday, 29-Apr-26 12:00:04 GMT\r\n"},
        {"asctime", "Retry-After: Wed Apr 29 12:00:04 2026\r\n"},
        {"absent", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.form));
        ServiceFixture api(fmt::format(
            R"({{"rate_limit":{{"per_second":0.25,"burst":2,"retry_after":"{}"}}}})", test.form));
        CHECK(api.post(event("a")).status == 200);
        CHECK(api.post_batch("[]").status == 200);  // a batch is one request
        const auto throttled = api.post(event("b"));
        CHECK(throttled.status == 429);
        CHECK(throttled.body == R"({"ok":false,"reason":"rate_limited","telemetryPaused":false,)"
                                R"("providerCallsContinue":true,"warnings":[]})");
        CHECK(throttled.extra_headers == test.header);
        CHECK(api.get("/v1/diagnostics/workspace-status").status == 200);
        api.clock.advance(milliseconds{3999});
        CHECK(api.post(event("b")).status == 429);
        api.clock.advance(milliseconds{1});
        CHECK(api.post(event("b")).status == 200);
        CHECK(api.post(event("c")).status == 429);
        api.clock.advance(seconds{3600});  // the burst is all that gathers
        CHECK(api.post(event("c")).status == 200);
        CHECK(api.post(event("d")).status == 200);
        CHECK(api.post(event("e")).status == 429);
        CHECK(api.stat("rate_limited") == 4);
        CHECK(api.stat("rows") == 4);
        api.control(R"({"rate_limit":{"per_second":0}})");
        CHECK(api.post(event("e")).status == 200);
    }
}

TEST_CASE("upstream/service: a wrong key uses up the rate limit, a scripted fault does not") {
    ServiceFixture api(
        R"({"rate_limit":{"per_second":1,"burst":1},"api_keys":["k"],"script":["503","ok","ok"]})");
    CHECK(api.post(event("a")).status == 503);
    CHECK(api.post(event("a"), "wrong").status == 401);
    CHECK(api.post(event("a")).status == 429);
}

TEST_CASE("upstream/service: a body over the limit is 413, a coded one 415") {
    ServiceFixture api;
    api.control(fmt::format(R"({{"body_bytes_max":{}}})", event("a").size()));
    CHECK(api.post(event("a")).status == 200);
    const auto large = api.post(event("aa"));
    CHECK(large.status == 413);
    CHECK(large.body == R"({"ok":false,"reason":"payload_too_large","warnings":[]})");
    const auto body = event("b");
    Request coded{"POST", "/v1/ingest/llm-request", "k", body, {}, "gzip", {}};
    const auto refused = api.handle(Port::ingest, coded);
    CHECK(refused.status == 415);
    CHECK(refused.extra_headers == "Accept-Encoding: identity\r\n");
    coded.content_encoding = "identity";
    CHECK(api.handle(Port::ingest, coded).status == 200);
}

TEST_CASE("upstream/service: demo makes rows, and they are deleted with a dashboard session") {
    ServiceFixture api(R"({"demo_rows":3})");
    const auto call = [&](std::string_view method, std::string_view target,
                          std::string_view key = "k", std::string_view authorization = {}) {
        return api.handle(Port::ingest, {method, target, key, {}, {}, {}, authorization});
    };
    CHECK(call("POST", "/v1/ingest/demo", "").status == 401);
    CHECK(call("GET", "/v1/ingest/demo").status == 405);
    CHECK(call("POST", "/v1/ingest/demo").body ==
          R"({"ok":true,"createdRows":3,"dataMode":"demo","warnings":[]})");
    CHECK(api.post(event("real")).status == 200);
    CHECK(api.stat("rows") == 4);
    CHECK(api.service.rows().body(0).find(R"("dataMode":"demo","environment":"dev")") !=
          std::string_view::npos);

    constexpr std::string_view kDemo = "/v1/ingest/demo-data?scope=workspace";
    constexpr std::string_view kBearer = "Bearer session";
    CHECK(call("DELETE", kDemo).status == 401);  // an API key is not a session
    CHECK(call("DELETE", kDemo, "", "Bearer ").status == 401);
    CHECK(call("DELETE", "/v1/ingest/demo-data", "", kBearer).body ==
          R"({"ok":false,"reason":"validation_failed","errors":[{"field":"scope",)"
          R"("message":"must be workspace or mine"}],"warnings":[]})");
    CHECK(call("DELETE", "/v1/ingest/demo-data?scope=all", "", kBearer).status == 400);
    api.control(R"({"role":"member"})");
    CHECK(call("DELETE", kDemo, "", kBearer).status == 403);
    CHECK(api.stat("rows") == 4);
    CHECK(call("DELETE", "/v1/ingest/demo-data?scope=mine", "", kBearer).body ==
          R"({"ok":true,"deletedRows":3,"dataMode":"demo","warnings":[]})");
    CHECK(call("DELETE", "/v1/ingest/demo-data?scope=mine", "", kBearer).body ==
          R"({"ok":true,"deletedRows":0,"dataMode":"demo","warnings":[]})");
    CHECK(api.stat("rows") == 1);

    auto test = event("test");
    test.insert(test.size() - 1, R"(,"dataMode":"test")");
    CHECK(api.post(test).status == 200);
    api.control(R"({"role":"admin","dashboard_auth":"api_key"})");
    CHECK(call("DELETE", "/v1/ingest/test-data?scope=workspace").body ==
          R"({"ok":true,"deletedRows":1,"dataMode":"test","warnings":[]})");
    CHECK(api.stat("rows") == 1);
    CHECK(api.stat("plan_used") == 5);  // deleting gives nothing back
}

TEST_CASE("upstream/service: demo stops at the plan's limit") {
    ServiceFixture api(R"({"plan":{"limit":2}})");
    const Request demo{"POST", "/v1/ingest/demo", "k", {}, {}, {}, {}};
    const auto reply = api.handle(Port::ingest, demo);
    CHECK(reply.status == 402);
    CHECK(reply.body.find("plan_limit_reached") != std::string::npos);
    CHECK(api.stat("rows") == 2);
}

TEST_CASE("upstream/service: the dashboard reads the same status with its own session") {
    ServiceFixture api;
    Request request{"GET", "/v1/settings/workspace-status", "k", {}, {}, {}, {}};
    CHECK(api.handle(Port::ingest, request).status == 401);
    request.authorization = "Bearer session";
    CHECK(api.handle(Port::ingest, request).body == api.status());
}

TEST_CASE("upstream/service: workspace-status can be unreadable") {
    ServiceFixture api(R"({"workspace_status":"missing"})");
    CHECK(api.get("/v1/diagnostics/workspace-status").status == 404);
    api.control(R"({"workspace_status":"broken"})");
    const auto broken = api.get("/v1/diagnostics/workspace-status");
    CHECK(broken.status == 500);
    CHECK(broken.content_type == "text/html; charset=utf-8");
    CHECK(api.stat("status_requests") == 2);
    CHECK(api.post(event("a")).status == 200);
}

TEST_CASE("upstream/service: one event can fail for ever while others pass") {
    ServiceFixture api(R"({"poison":{"text":"bad"}})");
    CHECK(api.post(event("bad")).status == 500);
    CHECK(api.post(event("good")).status == 200);
    api.control(R"({"poison":{"status":403,"page":true,"retry_after_s":7}})");
    const auto page = api.post(event("bad"));
    CHECK(page.status == 403);
    CHECK(page.content_type == "text/html; charset=utf-8");
    CHECK(page.extra_headers == "Retry-After: 7\r\n");
    api.control(R"({"poison":{"retry_after_s":0.05}})");
    CHECK(api.post(event("bad")).extra_headers == "Retry-After: 0.05\r\n");
    CHECK(api.stat("rows") == 1);
    api.control(R"({"poison":{"text":""}})");
    CHECK(api.post(event("bad")).status == 200);
    CHECK(api.stat("rows") == 2);
}

TEST_CASE("upstream/service: latency and pauses come from the fault or from the settings") {
    ServiceFixture api(
        R"({"latency_ms":5,"stall_ms":70,"script":["ok",{"fault":"latency","ms":20},)"
        R"("stall",{"fault":"stall","ms":9},"slow_body",{"fault":"slow_body","ms":7}]})");
    CHECK(api.post(event("a")).delay == milliseconds{5});
    CHECK(api.post(event("a")).delay == milliseconds{25});
    CHECK(api.post(event("a")).pause == milliseconds{70});
    CHECK(api.post(event("a")).pause == milliseconds{9});
    CHECK(api.post(event("a")).pause == milliseconds{100});
    CHECK(api.post(event("a")).pause == milliseconds{7});
}

}  // namespace opsrelay::upstream
