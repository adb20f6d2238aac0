#include "forward/retry.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "forward/http_date.h"

namespace opsrelay::forward {

namespace {

// 1994-11-06 08:49:37 UTC, the example of RFC 9110.
const WallTime kExample =
    std::chrono::sys_days{std::chrono::year{1994} / 11 / 6} + hours{8} + minutes{49} + seconds{37};

Reply reply(int status, std::string body = {}) {
    Reply r;
    r.status = status;
    r.body = std::move(body);
    return r;
}

}  // namespace

TEST_CASE("forward/retry: every row of the reply table has its verdict") {
    struct Case {
        const char* name;
        int status;
        std::string body;
        Verdict verdict;
    };
    const Case cases[] = {
        {"ok true", 200, R"({"ok":true})", Verdict::delivered},
        {"empty body", 200, "", Verdict::delivered},
        {"white space", 200, " \r\n", Verdict::delivered},
        {"no content", 204, "", Verdict::delivered},
        {"object without ok", 202, R"({"id":1})", Verdict::delivered},
        {"HTML", 200, "<html></html>", Verdict::not_the_api},
        {"text", 200, "OK", Verdict::not_the_api},
        {"array", 200, "[]", Verdict::not_the_api},
        {"half an object", 200, R"({"ok":tr)", Verdict::not_the_api},
        {"64 KiB of brackets", 200, std::string(65536, '['), Verdict::not_the_api},
        {"ok false, plan", 200, R"({"ok":false,"reason":"plan_limit_reached"})",
         Verdict::plan_limited},
        {"ok false, key", 200, R"({"ok":false,"reason":"invalid_api_key"})", Verdict::unauthorized},
        {"ok false, rate", 200, R"({"ok":false,"reason":"rate_limited"})", Verdict::throttled},
        {"ok false, invalid", 200, R"({"ok":false,"reason":"validation_failed"})",
         Verdict::rejected},
        {"ok false, unknown", 200, R"({"ok":false,"reason":"x"})", Verdict::backoff},
        {"ok false, no reason", 200, R"({"ok":false})", Verdict::backoff},
        {"already there", 409, "", Verdict::delivered},
        {"bad request", 400, "", Verdict::rejected},
        {"unprocessable", 422, "", Verdict::rejected},
        {"too large", 413, "", Verdict::rejected},
        {"unauthorized", 401, "", Verdict::unauthorized},
        {"forbidden", 403, "", Verdict::unauthorized},
        {"plan by reason", 402, R"({"reason":"plan_limit_reached"})", Verdict::plan_limited},
        {"plan by paused", 402, R"({"telemetryPaused":true})", Verdict::plan_limited},
        {"plan by flag", 402, R"({"isPlanLimitReached":true})", Verdict::plan_limited},
        {"budget", 402, R"({"reason":"budget_exceeded","telemetryPaused":false})",
         Verdict::budget_stopped},
        {"402 without JSON", 402, "pay", Verdict::budget_stopped},
        {"redirect", 302, "", Verdict::misconfigured},
        {"not found", 404, "", Verdict::misconfigured},
        {"method", 405, "", Verdict::misconfigured},
        {"gone", 410, "", Verdict::misconfigured},
        {"media type", 415, "", Verdict::misconfigured},
        {"another 4xx", 418, "", Verdict::misconfigured},
        {"request timeout", 408, "", Verdict::backoff},
        {"too early", 425, "", Verdict::backoff},
        {"throttled", 429, "", Verdict::throttled},
        {"page 400", 400, "<!DOCTYPE html><html>", Verdict::not_the_api},
        {"page 422", 422, "\r\n <html>", Verdict::not_the_api},
        {"page 402", 402, "<html>pay</html>", Verdict::not_the_api},
        {"page 409", 409, "<html></html>", Verdict::not_the_api},
        {"page 401", 401, "<html>sign in</html>", Verdict::not_the_api},
        {"page 403", 403, "<html>blocked</html>", Verdict::not_the_api},
        {"page 404", 404, "<?xml version=\"1.0\"?>", Verdict::not_the_api},
        {"page of a gateway, 413", 413, "<html>too large</html>", Verdict::rejected},
        {"page of a gateway, 429", 429, "<html>slow down</html>", Verdict::throttled},
        {"page of a gateway, 408", 408, "<html>too slow</html>", Verdict::backoff},
        {"page of a gateway, 425", 425, "<html>too early</html>", Verdict::backoff},
        {"page of a redirect", 301, "<html>moved</html>", Verdict::misconfigured},
        {"text 400", 400, "totalTokens < 0", Verdict::rejected},
        {"HTML 500", 500, "<html>", Verdict::backoff},
        {"unavailable", 503, "", Verdict::backoff},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(classify(reply(test.status, test.body), kExample).verdict == test.verdict);
    }
    for (const auto& row : kTransports) {
        if (row.value == Transport::ok) continue;
        CAPTURE(row.name);
        Reply broken = reply(200, R"({"ok":true})");
        broken.transport = row.value;
        CHECK(classify(broken, kExample).verdict == Verdict::backoff);
    }
}

TEST_CASE("forward/retry: a page says nothing about plan and budget") {
    const auto decision = classify(reply(402, "<html>pay</html>"), kExample);
    PlanFields fields;
    decision.plan.apply_to(fields);
    CHECK(fields == PlanFields{});
}

TEST_CASE("forward/retry: a deferred record waits a minute, then twice as long, up to 6 h") {
    Xoshiro rng{7};
    milliseconds limit = minutes{1};
    for (unsigned failures = kStuckFailures; failures < kStuckFailures + 40; ++failures) {
        for (int i = 0; i < 20; ++i) {
            const auto wait = deferral(failures, rng);
            CHECK(wait >= limit / 2);
            CHECK(wait <= limit);
        }
        limit = std::min<milliseconds>(limit * 2, hours{6});
    }
    CHECK(deferral(0, rng) <= minutes{1});
    CHECK(deferral(1'000'000, rng) >= hours{3});
}

TEST_CASE("forward/retry: a cut body is not the API's") {
    auto cut = reply(200, R"({"ok":true})");
    cut.body_cut = true;
    CHECK(classify(cut, kExample).verdict == Verdict::not_the_api);
}

TEST_CASE("forward/retry: plan fields are read, and a delivery ends a pause nobody mentions") {
    PlanFields fields{"Free", true, true, false, false};
    classify(reply(200, R"({"ok":true,"planTier":"Pro","budgetWarning":true})"), kExample)
        .plan.apply_to(fields);
    CHECK(fields == PlanFields{"Pro", false, false, true, false});
    classify(reply(402, R"({"reason":"plan_limit_reached"})"), kExample).plan.apply_to(fields);
    CHECK(fields == PlanFields{"Pro", true, true, true, false});
    classify(reply(503), kExample).plan.apply_to(fields);
    CHECK(fields.telemetry_paused);
}

TEST_CASE("forward/http_date: Retry-After in every form, corrected by Date") {
    struct Case {
        const char* name;
        const char* value;
        const char* date;
        std::int64_t ms;  // -1: garbage
    };
    const Case cases[] = {
        {"seconds", "3", nullptr, 3000},
        {"zero", "0", nullptr, 0},
        {"space around", " 120\t", nullptr, 120'000},
        {"absurd seconds", "99999999999999999999", nullptr, kRetryAfterMax.count()},
        {"IMF-fixdate", "Sun, 06 Nov 1994 08:50:37 GMT", nullptr, 60'000},
        {"RFC 850", "Sunday, 06-Nov-94 08:50:37 GMT", nullptr, 60'000},
        {"asctime", "Sun Nov  6 08:50:37 1994", nullptr, 60'000},
        {"asctime, two digits", "Wed Nov 16 08:49:37 1994", nullptr, kRetryAfterMax.count()},
        {"the peer's clock is an hour ahead", "Sun, 06 Nov 1994 09:50:37 GMT",
         "Sun, 06 Nov 1994 09:49:37 GMT", 60'000},
        {"unreadable Date", "Sun, 06 Nov 1994 08:50:37 GMT", "yesterday", 60'000},
        {"past", "Sun, 06 Nov 1994 08:00:00 GMT", nullptr, 0},
        {"leap second", "Sun, 06 Nov 1994 08:49:60 GMT", nullptr, 23'000},
        {"absurd date", "Sun, 06 Nov 2094 08:49:37 GMT", nullptr, kRetryAfterMax.count()},
        {"negative", "-1", nullptr, -1},
        {"fraction, as some servers send it", "1.5", nullptr, 1500},
        {"no fraction after all", "2.0", nullptr, 2000},
        {"less than a millisecond is one", "0.0001", nullptr, 1},
        {"never too early", "0.0501", nullptr, 51},
        {"absurd, with a fraction", "604800.5", nullptr, kRetryAfterMax.count()},
        {"only a fraction", ".5", nullptr, -1},
        {"no digits behind the point", "1.", nullptr, -1},
        {"two points", "1.5.0", nullptr, -1},
        {"an exponent", "1.5e3", nullptr, -1},
        {"empty", "", nullptr, -1},
        {"word", "soon", nullptr, -1},
        {"no such day", "Sun, 31 Feb 1994 08:49:37 GMT", nullptr, -1},
        {"no such hour", "Sun, 06 Nov 1994 24:49:37 GMT", nullptr, -1},
        {"other zone", "Sun, 06 Nov 1994 08:49:37 CET", nullptr, -1},
        {"cut", "Sun, 06 Nov 1994 08:49", nullptr, -1},
        {"trailing", "Sun, 06 Nov 1994 08:49:37 GMT!", nullptr, -1},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto date =
            test.date != nullptr ? std::optional<std::string_view>(test.date) : std::nullopt;
        const auto wait = parse_retry_after(test.value, date, kExample);
        CHECK((wait ? wait->count() : -1) == test.ms);
    }
}

TEST_CASE("forward/http_date: a two-digit year is at most 50 years ahead") {
    const auto now = WallTime{std::chrono::sys_days{std::chrono::year{2026} / 6 / 1}};
    const auto year_of = [&](const char* text) {
        const auto time = parse_http_date(text, now);
        REQUIRE(time.has_value());
        const std::chrono::year_month_day day{std::chrono::floor<std::chrono::days>(*time)};
        return static_cast<int>(day.year());
    };
    CHECK(year_of("Sunday, 06-Nov-94 08:49:37 GMT") == 1994);
    CHECK(year_of("Sunday, 06-Nov-27 08:49:37 GMT") == 2027);
    CHECK(year_of("Sunday, 06-Nov-76 08:49:37 GMT") == 2076);
    CHECK(year_of("Sunday, 06-Nov-77 08:49:37 GMT") == 1977);
}

TEST_CASE("forward/http_date: ISO 8601 needs a zone") {
    CHECK(parse_iso8601("1994-11-06T08:49:37Z") == kExample);
    CHECK(parse_iso8601("1994-11-06T08:49:37.250Z") == kExample + milliseconds{250});
    CHECK(parse_iso8601("1994-11-06T08:49:37.250999999Z") == kExample + milliseconds{250});
    CHECK(parse_iso8601("1994-11-06T10:49:37+02:00") == kExample);
    CHECK_FALSE(parse_iso8601("1994-11-06T08:49:37"));
    CHECK_FALSE(parse_iso8601("1994-11-06 08:49:37Z"));
    CHECK_FALSE(parse_iso8601("1994-13-06T08:49:37Z"));
    CHECK_FALSE(parse_iso8601(""));
}

TEST_CASE("forward/retry: workspace-status says who is paused until when") {
    const auto read = [](std::string body, int status = 200) {
        return read_workspace_status(reply(status, std::move(body)));
    };
    const auto full =
        read(R"({"isPlanLimitReached":true,"telemetryPaused":true,"isBudgetExceeded":true,)"
             R"("plan":{"planTier":"pro","periodEnd":"1994-11-30T23:59:59Z"},)"
             R"("budget":{"daily":{"isExceeded":false,"periodEnd":"1994-11-06T23:59:59Z"},)"
             R"("monthly":{"isExceeded":true,"periodEnd":"1994-11-30T23:59:59Z"}}})");
    CHECK(full.readable);
    CHECK(full.paused);
    CHECK(full.plan_period_end == parse_iso8601("1994-11-30T23:59:59Z"));
    CHECK(full.budget_period_end == parse_iso8601("1994-11-30T23:59:59Z"));
    CHECK(full.plan.plan_tier == "pro");
    const auto both = read(R"({"telemetryPaused":false,"budget":{)"
                           R"("daily":{"isExceeded":true,"periodEnd":"1994-11-06T23:59:59Z"},)"
                           R"("monthly":{"isExceeded":true,"periodEnd":"1994-11-30T23:59:59Z"}}})");
    CHECK_FALSE(both.paused);
    CHECK(both.budget_period_end == parse_iso8601("1994-11-06T23:59:59Z"));
    CHECK_FALSE(read("<html>").readable);
    CHECK_FALSE(read("{}").readable);
    CHECK_FALSE(read(R"({"telemetryPaused":true})", 500).readable);
    CHECK_FALSE(read(R"({"telemetryPaused":"yes"})").readable);
}

TEST_CASE("forward/retry: backoff has full jitter below a doubling, bounded ceiling") {
    Xoshiro rng{7};
    Backoff backoff{milliseconds{250}, milliseconds{60'000}, rng};
    milliseconds smallest{1'000'000};
    milliseconds largest{0};
    for (unsigned failures = 0; failures < 40; ++failures) {
        const auto ceiling = std::min<std::int64_t>(250LL << std::min(failures, 20U), 60'000);
        for (int i = 0; i < 200; ++i) {
            const auto wait = backoff.after(failures);
            CHECK(wait.count() >= 1);
            CHECK(wait.count() <= ceiling);
            if (failures != 39) continue;
            smallest = std::min(smallest, wait);
            largest = std::max(largest, wait);
        }
    }
    CHECK(smallest < milliseconds{6'000});
    CHECK(largest > milliseconds{54'000});
    for (int i = 0; i < 10; ++i) static_cast<void>(backoff.next());
    CHECK(backoff.failures() == 10);
    backoff.reset();
    CHECK(backoff.next() <= milliseconds{250});
}

}  // namespace opsrelay::forward
