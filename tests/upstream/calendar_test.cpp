#include "upstream/calendar.h"

#include <doctest/doctest.h>

#include <string>

#include "upstream/usage.h"

namespace opsrelay::upstream {

TEST_CASE("upstream/calendar: a period ends with its last second, also of leap years") {
    struct Case {
        const char* now;
        const char* day_end;
        const char* month_start;
        const char* month_end;
    };
    const Case cases[] = {
        {"2024-02-29T12:00:00Z", "2024-02-29T23:59:59Z", "2024-02-01T00:00:00Z",
         "2024-02-29T23:59:59Z"},
        {"2026-02-28T23:59:59Z", "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z",
         "2026-02-28T23:59:59Z"},
        {"2026-12-31T23:59:59Z", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z",
         "2026-12-31T23:59:59Z"},
        {"2027-01-01T00:00:00Z", "2027-01-01T23:59:59Z", "2027-01-01T00:00:00Z",
         "2027-01-31T23:59:59Z"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.now));
        const auto day = day_of(*parse_utc(test.now));
        CHECK(period_of(day).end == test.day_end);
        CHECK(period_of(month_of(day)).start == test.month_start);
        CHECK(period_of(month_of(day)).end == test.month_end);
    }
}

TEST_CASE("upstream/calendar: ISO 8601 is read, and nothing else") {
    struct Case {
        const char* text;
        const char* time;  // "": not a time
    };
    const Case cases[] = {
        {"2026-04-11T10:20:30Z", "2026-04-11T10:20:30Z"},
        {"2026-04-11T10:20:30.123456Z", "2026-04-11T10:20:30Z"},
        {"2026-04-11T00:20:30+02:00", "2026-04-10T22:20:30Z"},
        {"2026-12-31T23:59:30-00:30", "2027-01-01T00:29:30Z"},
        {"2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
        {"2026-02-29T00:00:00Z", ""},
        {"2026-13-01T00:00:00Z", ""},
        {"2026-04-11T24:00:00Z", ""},
        {"2026-04-11T10:60:00Z", ""},
        {"2026-04-11T10:20:30", ""},
        {"2026-04-11T10:20:30.Z", ""},
        {"2026-04-11T10:20:30+0200", ""},
        {"2026-04-11T10:20:30+15:00", ""},
        {"2026-04-11 10:20:30Z", ""},
        {"2026-04-11T10:20:30Z ", ""},
        {"+026-04-11T10:20:30Z", ""},
        {"9999-04-11T10:20:30Z", ""},
        {"2026-04-11", ""},
        {"", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.text));
        const auto time = parse_utc(test.text);
        CHECK((time ? utc_text(*time) : "") == test.time);
    }
}

TEST_CASE("upstream/usage: days add up to months, and the oldest are forgotten") {
    Usage usage;
    const auto day = day_of(*parse_utc("2026-04-29T12:00:00Z"));
    usage.add(day, {1, 10});
    usage.add(day, {2, 20});
    usage.add(day + std::chrono::days{2}, {4, 40});
    CHECK(usage.of(day).requests == 3);
    CHECK(usage.of(day).nano_usd == 30);
    CHECK(usage.of(month_of(day)).requests == 3);
    CHECK(usage.of(month_of(day + std::chrono::days{2})).requests == 4);
    for (int i = 0; i < static_cast<int>(Usage::kDaysMax); ++i) {
        usage.add(day + std::chrono::days{3 + i}, {1, 0});
    }
    CHECK(usage.of(day).requests == 0);
    CHECK(usage.of(day + std::chrono::days{3}).requests == 1);
    usage.clear();
    CHECK(usage.of(day + std::chrono::days{3}).requests == 0);
}

}  // namespace opsrelay::upstream
