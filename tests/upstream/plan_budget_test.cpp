// Plans, budgets, their periods, and the switches that say what counts.
#include <doctest/doctest.h>

#include <string>

#include "upstream/catalog.h"
#include "upstream/service_fixture.h"

namespace opsrelay::upstream {

namespace {

// gpt-4o with 1,000,000 and 0 tokens: 2.50 USD.
std::string dear(std::string_view id, std::string_view more = {},
                 std::string_view model = "gpt-4o") {
    return fmt::format(R"({{"externalRequestId":"{}","provider":"openai","model":"{}",)"
                       R"("inputTokens":1000000,"outputTokens":0,"status":"success"{}}})",
                       id, model, more);
}

double daily_spend(ServiceFixture& api) {
    return number_in(api.status(), "budget/daily/currentSpendUsd");
}
double monthly_spend(ServiceFixture& api) {
    return number_in(api.status(), "budget/monthly/currentSpendUsd");
}

}  // namespace

TEST_CASE("upstream/plan: the documented plans have their limits by name") {
    struct Case {
        const char* name;
        int limit;
    };
    const Case cases[] = {{"Free", 10'000},    {"starter", 100'000}, {"PRO", 500'000},
                          {"Team", 2'000'000}, {"Enterprise", 0},    {"Own", 0}};
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        ServiceFixture api(fmt::format(R"({{"plan":{{"name":"{}"}}}})", test.name));
        CHECK(number_in(api.status(), "plan/planRequestLimit") == test.limit);
        CHECK(number_in(api.post(event("a")).body, "planLimitRequests") == test.limit);
    }
    ServiceFixture api(R"({"plan":{"name":"Free","used":9999}})");
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 402);
    api.control(R"({"plan":{"name":"Starter"}})");  // an upgrade
    CHECK(api.post(event("b")).status == 200);
}

TEST_CASE("upstream/plan: the next UTC month begins at zero") {
    ServiceFixture api(R"({"plan":{"limit":3,"used":2,"period_end":"2026-04-29T13:00:00Z"}})");
    CHECK(api.post(event("a")).status == 200);
    CHECK(api.post(event("b")).status == 402);
    CHECK(api.status().find(R"("periodEnd":"2026-04-29T13:00:00Z")") != std::string::npos);
    api.control(R"({"clock":{"set":"2026-04-30T23:59:59Z"}})");
    CHECK(api.post(event("b")).status == 402);  // another day, the same month
    api.clock.jump_wall(seconds{1});
    CHECK(api.post(event("b")).status == 200);
    CHECK(api.stat("plan_used") == 1);
    CHECK(api.status().find(R"("periodStart":"2026-05-01T00:00:00Z","periodEnd":)"
                            R"("2026-05-31T23:59:59Z")") != std::string::npos);
    CHECK(number_in(api.status(), "plan/remainingRequestCount") == 2);
    // Back in April the rows of April count again.
    api.control(R"({"clock":{"advance_ms":-86400000}})");
    CHECK(api.stat("plan_used") == 1);
    CHECK(api.stat("rows") == 2);
}

TEST_CASE("upstream/budget: the spend is computed from rows, and the day and the month end") {
    ServiceFixture api(R"({"clock":{"set":"2026-04-29T23:59:58Z"},)"
                       R"("budget":{"stop":"exceeded","daily":{"limit_usd":4},)"
                       R"("monthly":{"limit_usd":6,"spend_usd":0.5}}})");
    CHECK(api.post(dear("a")).status == 200);
    CHECK(api.post(dear("a")).status == 200);  // a repeat costs nothing
    CHECK(daily_spend(api) == 2.5);
    CHECK(monthly_spend(api) == 3.0);
    CHECK(api.post(dear("unknown", {}, "gpt-17")).status == 200);
    CHECK(daily_spend(api) == 2.5);
    const auto second = api.post(dear("b"));
    CHECK(second.status == 200);
    CHECK(second.body.find(R"("budgetWarning":true,"budgetExceeded":true)") != std::string::npos);
    CHECK(api.post(event("c")).status == 402);
    CHECK(api.stat("budget_blocked") == 1);
    // The day ends, the month does not.
    api.control(R"({"clock":{"advance_ms":2000}})");
    CHECK(daily_spend(api) == 0);
    CHECK(monthly_spend(api) == 5.5);
    CHECK(api.post(dear("c")).status == 200);
    CHECK(api.post(event("d")).status == 402);  // now the month is exceeded
    api.control(R"({"clock":{"advance_ms":86400000}})");
    CHECK(monthly_spend(api) == 0);
    CHECK(api.post(event("d")).status == 200);
}

TEST_CASE("upstream/budget: a spend equal to the limit warns, and stops when told so") {
    for (const bool reached : {false, true}) {
        CAPTURE(reached);
        ServiceFixture api(fmt::format(
            R"({{"budget":{{"stop":"exceeded","edge":"{}","daily":{{"limit_usd":2.5}}}}}})",
            reached ? "reached" : "above"));
        CHECK(api.post(dear("a")).status == 200);
        CHECK(api.status().find(reached ? R"("isBudgetWarning":true,"isBudgetExceeded":true)"
                                        : R"("isBudgetWarning":true,"isBudgetExceeded":false)") !=
              std::string::npos);
        CHECK(api.post(event("b")).status == (reached ? 402 : 200));
    }
}

TEST_CASE("upstream/budget: the warning begins at the ratio") {
    ServiceFixture api(R"({"budget":{"warning_ratio":0.5,"daily":{"limit_usd":5.0000001}}})");
    CHECK(api.post(dear("a")).body.find(R"("budgetWarning":false)") != std::string::npos);
    api.control(R"({"budget":{"daily":{"limit_usd":5}}})");
    CHECK(api.status().find(R"("isBudgetWarning":true,"isBudgetExceeded":false,)"
                            R"("severity":"warning")") != std::string::npos);
}

TEST_CASE("upstream/plan: createdAt moves a row to its day and month when honoured") {
    const std::string_view created = R"(,"createdAt":"2026-03-31T23:59:59.500Z")";
    for (const bool honoured : {false, true}) {
        CAPTURE(honoured);
        ServiceFixture api(fmt::format(
            R"({{"created_at":"{}","plan":{{"limit":10}},"budget":{{"daily":{{"limit_usd":9}},)"
            R"("monthly":{{"limit_usd":9}}}}}})",
            honoured ? "honoured" : "ignored"));
        CHECK(api.post(dear("a", created)).status == 200);
        CHECK(monthly_spend(api) == (honoured ? 0 : 2.5));
        CHECK(api.stat("plan_used") == (honoured ? 0 : 1));
        api.control(R"({"clock":{"set":"2026-03-31T12:00:00Z"}})");
        CHECK(daily_spend(api) == (honoured ? 2.5 : 0));
        CHECK(api.stat("plan_used") == (honoured ? 1 : 0));
    }
    // Too far away, or no time at all: the day of arrival.
    for (const char* when : {"2025-03-01T00:00:00Z", "2026-05-01T12:00:01Z", "yesterday"}) {
        CAPTURE(when);
        ServiceFixture api(R"({"created_at":"honoured"})");
        CHECK(api.post(dear("a", fmt::format(R"(,"createdAt":"{}")", when))).status == 200);
        CHECK(daily_spend(api) == 2.5);
    }
}

TEST_CASE("upstream/catalog: aliases are mapped when told so") {
    struct Case {
        const char* provider;
        const char* model;
        const char* exact;
        const char* aliases;
    };
    const Case cases[] = {
        {"openai", "gpt-4o", "gpt-4o", "gpt-4o"},
        {"openai", "gpt-4o-mini-2024-07-18", "", "gpt-4o-mini"},
        {"openai", "gpt-4.1", "", "gpt-4-1"},
        {"openai", "GPT-4.1-mini-2025-04-14", "", "gpt-4-1-mini"},
        {"OpenAI", "gpt-4o", "", "gpt-4o"},
        {"openai", "gpt-4o-20240806", "", "gpt-4o"},
        {"openai", "gpt-4o-2024-07", "", ""},
        {"openai", "-2024-07-18", "", ""},
        {"anthropic", "gpt-4o", "", ""},
        {"openai", "", "", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.model));
        const auto* exact = find_price(test.provider, test.model, ModelMatching::exact);
        const auto* alias = find_price(test.provider, test.model, ModelMatching::aliases);
        CHECK((exact ? exact->model : "") == test.exact);
        CHECK((alias ? alias->model : "") == test.aliases);
    }
    ServiceFixture api(R"({"model_matching":"aliases"})");
    CHECK(api.post(dear("a", {}, "gpt-4o-2024-08-06")).status == 200);
    CHECK(daily_spend(api) == 2.5);
}

TEST_CASE("upstream/plan: rows of test and demo count as the switches say") {
    for (const bool count : {true, false}) {
        CAPTURE(count);
        ServiceFixture api(fmt::format(R"({{"plan":{{"limit":9,"count_test_rows":{0}}},)"
                                       R"("budget":{{"count_test_rows":{0}}}}})",
                                       count));
        CHECK(api.post(dear("a", R"(,"dataMode":"test")")).status == 200);
        CHECK(api.post(dear("b", R"(,"dataMode":"demo")")).status == 200);
        CHECK(api.stat("plan_used") == (count ? 2 : 0));
        CHECK(daily_spend(api) == (count ? 5 : 0));
        CHECK(api.post(dear("c", R"(,"dataMode":"real")")).status == 200);
        CHECK(api.post(dear("d")).status == 200);
        CHECK(api.stat("plan_used") == (count ? 4 : 2));
        CHECK(daily_spend(api) == (count ? 10 : 5));
    }
}

TEST_CASE("upstream/plan: what is blocked counts and is stored as the switches say") {
    ServiceFixture api(R"({"plan":{"limit":1}})");
    CHECK(api.post(dear("a")).status == 200);
    CHECK(api.post(dear("b")).status == 402);
    CHECK(api.stat("rows") == 1);
    CHECK(api.stat("plan_used") == 1);
    api.control(R"({"count_blocked":true})");
    CHECK(api.post(dear("b")).status == 402);
    CHECK(api.stat("plan_used") == 2);
    CHECK(number_in(api.status(), "plan/remainingRequestCount") == 0);
    api.control(R"({"count_blocked":false,"plan":{"store_blocked":true}})");
    CHECK(api.post(dear("b")).status == 402);
    CHECK(api.stat("rows") == 2);
    CHECK(api.stat("plan_used") == 2);
    CHECK(daily_spend(api) == 5);  // a row has its price

    api.control(R"({"plan":{"limit":0},"budget":{"stop":"always"}})");
    CHECK(api.post(dear("c")).status == 402);
    CHECK(api.stat("rows") == 2);
    api.control(R"({"budget":{"store_blocked":true}})");
    CHECK(api.post(dear("c")).status == 402);
    CHECK(api.stat("rows") == 3);
    api.control(R"({"budget":{"stop":"off"}})");
    CHECK(api.post(dear("c")).status == 200);  // the client comes again: a repeat
    CHECK(api.stat("repeated") == 1);
}

TEST_CASE("upstream/status: a missing budget has three shapes") {
    struct Case {
        const char* shape;
        const char* without;  // a part of the answer with no limit at all
        const char* daily_only;
    };
    const Case cases[] = {
        {"zeros", R"("daily":{"limitUsd":0,)", R"("monthly":{"limitUsd":0,)"},
        {"null", R"("budget":null})", R"("monthly":null}})"},
        {"absent", R"("periodEnd":"2026-04-30T23:59:59Z"}})",
         R"("period":"daily","periodStart":"2026-04-29T00:00:00Z",)"
         R"("periodEnd":"2026-04-29T23:59:59Z"}}})"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.shape));
        ServiceFixture api(fmt::format(R"({{"budget":{{"without_limit":"{}"}}}})", test.shape));
        rapidjson::Document document;
        CHECK_FALSE(document.Parse(api.status().c_str()).HasParseError());
        CHECK(api.status().find(test.without) != std::string::npos);
        api.control(R"({"budget":{"daily":{"limit_usd":4}}})");
        CHECK_FALSE(document.Parse(api.status().c_str()).HasParseError());
        CHECK(api.status().find(test.daily_only) != std::string::npos);
        CHECK(number_in(api.status(), "budget/daily/limitUsd") == 4);
    }
}

TEST_CASE("upstream/status: severity and the casing of planTier are switches") {
    ServiceFixture api(R"({"plan":{"name":"Pro","limit":1,"used":1}})");
    CHECK(api.status().find(R"("severity":"critical")") != std::string::npos);
    api.control(R"({"plan_limit_severity":"warning"})");
    CHECK(api.status().find(R"("severity":"warning")") != std::string::npos);
    api.control(R"({"budget":{"daily":{"limit_usd":1,"spend_usd":2}}})");
    CHECK(api.status().find(R"("severity":"critical")") != std::string::npos);

    struct Case {
        const char* casing;
        const char* ingest;
        const char* status;
    };
    const Case cases[] = {{"mixed", "Pro", "pro"},
                          {"named", "Pro", "Pro"},
                          {"lower", "pro", "pro"},
                          {"upper", "PRO", "PRO"}};
    for (const auto& test : cases) {
        CAPTURE(std::string(test.casing));
        api.control(fmt::format(R"({{"plan_tier_case":"{}"}})", test.casing));
        CHECK(api.post(event("a")).body.find(fmt::format(R"("planTier":"{}")", test.ingest)) !=
              std::string::npos);
        CHECK(api.status().find(fmt::format(R"("planTier":"{}","planName":"Pro")", test.status)) !=
              std::string::npos);
    }
}

}  // namespace opsrelay::upstream
