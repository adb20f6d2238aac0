#include "forward/late.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "core/clock.h"
#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::accept;
using test::answer;
using World = test::PumpWorld;

constexpr std::int64_t kDayMs = 86'400'000;

std::int64_t midnight(int year, unsigned month, unsigned day) {
    return unix_ms(WallTime{std::chrono::sys_days{
        std::chrono::year{year} / static_cast<int>(month) / static_cast<int>(day)}});
}

std::uint64_t exported(World& world, std::string_view boundary) {
    return world.registry.counter(observe::kEventsLate, boundary).value();
}

}  // namespace

TEST_CASE("forward/late: which boundaries lie between receipt and delivery") {
    struct Case {
        const char* name;
        std::int64_t received;
        std::int64_t delivered;
        bool day;
        bool month;
    };
    constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
    constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
    const auto noon = midnight(2026, 5, 10) + kDayMs / 2;
    const Case cases[] = {
        {"at once", noon, noon, false, false},
        {"later that day", noon, midnight(2026, 5, 11) - 1, false, false},
        {"at midnight", noon, midnight(2026, 5, 11), true, false},
        {"received at midnight", midnight(2026, 5, 11), noon + kDayMs, false, false},
        {"a millisecond, over midnight", midnight(2026, 5, 11) - 1, midnight(2026, 5, 11), true,
         false},
        {"from the first to the last of a month", midnight(2026, 5, 1), midnight(2026, 6, 1) - 1,
         true, false},
        {"end of a month of 31 days", midnight(2026, 6, 1) - 1, midnight(2026, 6, 1), true, true},
        {"end of a month of 30 days", midnight(2026, 7, 1) - 1, midnight(2026, 7, 1), true, true},
        {"the same day of the next month", noon, midnight(2026, 6, 10), true, true},
        {"the same month of the next year", noon, midnight(2027, 5, 10), true, true},
        {"end of a year", midnight(2027, 1, 1) - 1, midnight(2027, 1, 1), true, true},
        {"28 February of a common year", midnight(2026, 2, 28), midnight(2026, 3, 1), true, true},
        {"28 February of a leap year", midnight(2028, 2, 28), midnight(2028, 2, 29), true, false},
        {"29 February", midnight(2028, 2, 29), midnight(2028, 3, 1), true, true},
        {"1900 rule: 2100 is no leap year", midnight(2100, 2, 28), midnight(2100, 3, 1), true,
         true},
        {"2000 was one", midnight(2000, 2, 28), midnight(2000, 2, 29), true, false},
        {"the clock stepped back", noon, noon - 1, false, false},
        {"the clock stepped back over midnight", midnight(2026, 6, 1), midnight(2026, 6, 1) - 1,
         false, false},
        {"before 1970", -1, 0, true, true},
        {"both before 1970", -2, -1, false, false},
        {"a damaged time in the past", kMin, noon, true, true},
        {"a damaged time in the future", kMax, noon, false, false},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto late = lateness(test.received, test.delivered);
        CHECK(late.day == test.day);
        CHECK(late.month == test.month);
    }
}

TEST_CASE("forward/late: who is late for the month is late for the day") {
    observe::Registry registry;
    LateCounter first(registry);
    LateCounter second(registry);
    first.note_delivered(0, 1);
    CHECK(first.counts().day == 0);
    first.note_delivered(0, kDayMs);
    first.note_delivered(0, 40 * kDayMs);
    second.note_delivered(0, kDayMs);
    CHECK(first.counts().day == 2);
    CHECK(first.counts().month == 1);
    CHECK(second.counts().day == 1);
    CHECK(second.counts().month == 0);
    CHECK(registry.counter(observe::kEventsLate, "day").value() == 3);
    CHECK(registry.counter(observe::kEventsLate, "month").value() == 1);
    CHECK(registry.exposition().find("opsrelay_events_late_total{boundary=\"month\"} 1\n") !=
          std::string::npos);
}

// Calendar time begins on 1 January 2026 at midnight.
TEST_CASE("forward/late: an outage over midnight and over the end of a month is counted") {
    World world;
    bool down = false;
    world.upstream.choose = [&down](std::string_view) -> std::optional<test::Step> {
        return down ? answer(503) : accept();
    };
    world.start();
    world.commit(3);
    REQUIRE(world.run_until_settled());
    CHECK(world.pump.status().late.day == 0);
    CHECK(exported(world, "day") == 0);

    down = true;
    world.commit(5);
    world.run_for(hours{20});
    world.clock.jump_wall(-hours{30});  // it would not be late by this clock
    down = false;
    REQUIRE(world.run_until_settled());
    CHECK(world.pump.status().late.day == 0);

    world.clock.jump_wall(hours{30});
    down = true;
    world.commit(5);
    world.run_for(hours{24});
    world.commit(2);  // of the day on which they are delivered
    down = false;
    REQUIRE(world.run_until_settled(minutes{5}));
    CHECK(world.pump.status().late.day == 5);
    CHECK(world.pump.status().late.month == 0);

    down = true;
    world.commit(7);
    world.run_for(hours{24 * 31});
    down = false;
    REQUIRE(world.run_until_settled());
    CHECK(world.pump.status().late.day == 12);
    CHECK(world.pump.status().late.month == 7);
    CHECK(exported(world, "day") == 12);
    CHECK(exported(world, "month") == 7);
    CHECK(world.balanced());
}

TEST_CASE("forward/late: a dead letter is not late, and an event sent twice counts once") {
    World world;
    bool failed = false;
    world.upstream.choose = [&failed](std::string_view body) -> std::optional<test::Step> {
        if (body == test::event(1)) return answer(422);
        const bool first = body == test::event(2) && !failed;
        if (first) failed = true;
        return first ? answer(503) : accept();
    };
    world.commit(3);
    world.run_for(hours{25});
    world.start();
    REQUIRE(world.run_until_settled());
    CHECK(failed);
    CHECK(world.totals.dead == 1);
    CHECK(world.pump.status().late.day == 2);
    CHECK(exported(world, "day") == 2);
}

}  // namespace opsrelay::forward
