#include "upstream/faults.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <map>
#include <string>

namespace opsrelay::upstream {

namespace {

std::string draw(std::uint64_t seed, int count) {
    FaultPlan plan;
    plan.set_seed(seed);
    plan.set_rates({*parse_rate("500_html=200", Scope::request),
                    *parse_rate("reset_before=100", Scope::request)});
    std::string out;
    for (int i = 0; i < count; ++i) out += plan.next().name() + ' ';
    return out;
}

}  // namespace

TEST_CASE("upstream/faults: rates give the same faults for the same seed") {
    CHECK(draw(7, 500) == draw(7, 500));
    CHECK(draw(7, 500) != draw(8, 500));
}

TEST_CASE("upstream/faults: rates are per mille of the requests") {
    FaultPlan plan;
    plan.set_rates(
        {*parse_rate("500_html=200", Scope::request), *parse_rate("429=100", Scope::request)});
    std::map<std::string, int> counts;
    for (int i = 0; i < 20'000; ++i) ++counts[plan.next().name()];
    CHECK(counts["500_html"] > 3600);  // the seed is fixed, so these hold or fail for good
    CHECK(counts["500_html"] < 4400);
    CHECK(counts["429"] > 1700);
    CHECK(counts["429"] < 2300);
    plan.set_rates({*parse_rate("503_empty=1000", Scope::request)});
    for (int i = 0; i < 100; ++i) CHECK(plan.next().kind == FaultKind::empty_503);
}

TEST_CASE("upstream/faults: a script is consumed in order, before rates") {
    FaultPlan plan;
    plan.set_rates({*parse_rate("204=1000", Scope::request)});
    plan.set_script(*parse_script(R"(["ok",{"fault":"503","times":2},"stall"])", Scope::request));
    std::string seen;
    for (int i = 0; i < 5; ++i) seen += plan.next().name() + ' ';
    CHECK(seen == "ok 503 503 stall 204 ");
    CHECK(plan.script().empty());
}

TEST_CASE("upstream/faults: every name is understood and given back") {
    for (const auto& row : kFaultKinds) {
        if (row.value == FaultKind::status) continue;
        CAPTURE(row.name);
        const auto fault = parse_fault_name(row.name, Scope::request);
        REQUIRE(fault.has_value());
        CHECK(fault->kind == row.value);
        CHECK(fault->name() == row.name);
    }
    for (const char* code :
         {"400", "401", "403", "404", "409", "413", "422", "429", "503", "599"}) {
        CAPTURE(code);
        CHECK(parse_fault_name(code, Scope::request)->name() == code);
    }
}

TEST_CASE("upstream/faults: bad scripts and rates are refused with the reason") {
    struct Case {
        const char* name;
        const char* json;
        const char* complaint;
    };
    const Case cases[] = {
        {"not JSON", "[", "script: not JSON at byte 1"},
        {"not an array", "{}", "script: must be an array"},
        {"unknown fault", R"(["ok","boom"])", "script[1]: \"boom\" is not a fault"},
        {"status", R"(["status"])", "script[0]: \"status\" is not a fault"},
        {"code", R"(["299"])", "script[0]: \"299\" is not a fault"},
        {"no name", R"([{"times":2}])", "script[0].fault: \"\" is not a fault"},
        {"no times", R"([{"fault":"429","times":0}])", "script[0].times: must be an integer"},
        {"unknown key", R"([{"fault":"429","tmes":2}])",
         "script[0]: tmes: unknown key; did you mean times? (value 2)"},
        {"two lines", R"([{"fault":"429","retry_after":"1\r\nX: y"}])",
         "script[0].retry_after: must be one line"},
        {"form", R"([{"fault":"429","retry_after":{"form":"iso"}}])",
         "script[0].retry_after.form: must be one of"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        const auto script = parse_script(test.json, Scope::request);
        REQUIRE(script.has_error());
        CAPTURE(script.error().context);
        CHECK(script.error().context.starts_with(test.complaint));
    }
    for (const char* rate : {"", "429", "429=", "429=x", "429=1001", "429=-1", "boom=1"}) {
        CAPTURE(rate);
        CHECK(parse_rate(rate, Scope::request).has_error());
    }
    CHECK(check_rates(
              {*parse_rate("429=600", Scope::request), *parse_rate("204=401", Scope::request)})
              .has_error());
}

TEST_CASE("upstream/faults: Retry-After has all the forms of RFC 9110") {
    const WallTime now{seconds{784111777}};  // the example date of RFC 9110, 5.6.7
    struct Case {
        const char* name;
        RetryAfter retry;
        const char* value;
    };
    const Case cases[] = {
        {"verbatim", {RetryForm::verbatim, "soon", 0}, "soon"},
        {"seconds", {RetryForm::seconds, "", 3}, "3"},
        {"IMF-fixdate", {RetryForm::imf_fixdate, "", 0}, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"RFC 850", {RetryForm::rfc850, "", 0}, "Sunday, 06-Nov-94 08:49:37 GMT"},
        {"asctime", {RetryForm::asctime, "", 0}, "Sun Nov  6 08:49:37 1994"},
        {"later", {RetryForm::imf_fixdate, "", 60}, "Sun, 06 Nov 1994 08:50:37 GMT"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        CHECK(header_value(test.retry, now) == test.value);
    }
}

TEST_CASE("upstream/faults: an item has a status and nothing else that can fail") {
    for (const char* name : {"ok", "402_plan", "402_budget", "400", "409", "429", "503"}) {
        CAPTURE(name);
        CHECK(parse_fault_name(name, Scope::item).has_value());
    }
    for (const char* name : {"reset_before", "stall", "500_html", "204", "results_missing"}) {
        CAPTURE(name);
        const auto refused = parse_fault_name(name, Scope::item);
        REQUIRE(refused.has_error());
        CHECK(refused.error().context ==
              fmt::format("\"{}\" is not a fault of an item; allowed are ok, 402_plan, 402_budget, "
                          "or a status code 300 to 599",
                          name));
    }
}

}  // namespace opsrelay::upstream
