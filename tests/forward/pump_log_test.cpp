// How much a lane logs, in virtual time: by the minute and by the day.
#include <array>

#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::accept;
using test::answer;
using test::broken;
using test::retry_after;
using World = test::PumpWorld;

constexpr std::size_t kLinesOfMinute = 8;  // when every reply is another one

struct Count {
    std::size_t most_in_a_minute = 0;
    std::size_t together = 0;
    std::size_t requests = 0;
};

/// The most lines of any minute, and all of them.
Count run(World& world, std::int64_t length) {
    Count count;
    const auto before = world.upstream.requests().size();
    for (std::int64_t minute = 0; minute < length; ++minute) {
        world.log.clear();
        world.run_for(minutes{1});
        const auto lines = world.log.lines().size();
        CAPTURE(minute);
        if (lines > kLinesOfMinute) {
            for (const auto& line : world.log.lines()) MESSAGE(line.text);
        }
        count.most_in_a_minute = std::max(count.most_in_a_minute, lines);
        count.together += lines;
    }
    count.requests = world.upstream.requests().size() - before;
    return count;
}

}  // namespace

TEST_CASE("forward/pump_log: an outage of weeks with a million records is a few lines a minute") {
    World world;
    world.upstream.otherwise(answer(503, "<html>"));
    for (int i = 0; i < 125; ++i) world.commit(8000);
    world.start();
    const auto hour = run(world, 60);
    CHECK(hour.most_in_a_minute <= 5);
    CHECK(hour.together <= 20);
    const auto day = run(world, 24 * 60);
    CHECK(day.most_in_a_minute <= 5);
    CHECK(day.together <= 120);
    CHECK(day.requests > 1000);  // it never gave up meanwhile
    const auto weeks = run(world, 13 * 24 * 60);
    CHECK(weeks.most_in_a_minute <= 5);
    CHECK(weeks.together <= 13 * 120);
    CHECK(world.settler.spooled() == 1'000'000);
    world.upstream.otherwise(accept());
    world.log.clear();
    world.run_for(minutes{2});
    CHECK(world.log.count("state=active was=backing_off") == 1);  // the end is told at once
    CHECK(world.log.lines().size() <= 3);
}

TEST_CASE("forward/pump_log: however an upstream fails, a lane logs a few lines a minute") {
    struct Case {
        const char* name;
        std::vector<test::Step> steps;  // again and again
    };
    const std::vector<Case> cases{
        {"good and bad by turns", {accept(), answer(503), answer(503), answer(503)}},
        {"always late", {test::hang()}},
        {"another error each time",
         {answer(500), broken(Transport::reset), broken(Transport::tls), answer(429),
          broken(Transport::resolve), retry_after(503, "1"), accept(), answer(408), answer(404),
          answer(401), answer(402, R"({"reason":"plan_limit_reached"})"), answer(200, "<html>")}},
        {"refused and taken by turns", {accept(), answer(400), answer(422), answer(413)}},
        {"everything refused", {answer(400)}},
        {"a key that comes and goes", {accept(), answer(401)}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world;
        std::size_t next = 0;
        world.upstream.choose = [&](std::string_view) {
            auto step = test.steps[next++ % test.steps.size()];
            step.latency = seconds{2};
            return std::optional(step);
        };
        world.commit(8000);
        world.start();
        const auto count = run(world, 90);
        CAPTURE(count.together);
        CHECK(count.most_in_a_minute <= kLinesOfMinute);
        CHECK(count.together > 0);
        CHECK(count.together <= 90);  // less than one a minute
        CHECK(world.upstream.requests().size() > 20);
    }
}

TEST_CASE("forward/pump_log: a state whose line was held back is told when it stays") {
    World world;
    world.start();
    world.upstream.otherwise(answer(503));
    world.commit(1);
    world.run_for(seconds{5});
    REQUIRE(world.log.count("lane=default state=backing_off") == 1);
    // Up, and down again before the next line about that is due.
    world.upstream.otherwise(accept());
    REQUIRE(world.run_until_settled(minutes{1}));
    world.upstream.otherwise(answer(503));
    world.commit(1);
    world.run_for(seconds{2});
    world.run_for(minutes{5});
    CHECK(world.pump.status().state == LaneState::backing_off);
    const auto lines = world.log.lines();
    std::string last;
    for (const auto& line : lines) {
        if (line.text.find("msg=\"lane state\"") != std::string::npos) last = line.text;
    }
    CHECK(last.find("state=backing_off") != std::string::npos);
}

}  // namespace opsrelay::forward
