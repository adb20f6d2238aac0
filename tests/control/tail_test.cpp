#include "control/tail.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>

#include "core/task_group.h"
#include "support/sim_clock.h"

using namespace opsrelay;
using namespace opsrelay::control;
using observe::Sight;
using observe::Sighting;

namespace {

const std::vector<std::string> kLanes{"default", "europe"};

asio::awaitable<void> read_into(Tail::Reader& reader, TimePoint due,
                                std::optional<std::string>& lines) {
    lines = co_await reader.next(due);
}

/// A tail under virtual time; every task is joined at the end.
struct World {
    World() = default;
    World(const World&) = delete;
    World& operator=(const World&) = delete;
    ~World() {
        tasks.spawn("stop", tail.stop());
        CHECK(clock.run_until(
            io, [this] { return tasks.size() == 0; }, clock.now() + hours{1}));
        CHECK(clock.armed() == 0);
    }
    /// Lines of the reader that are there now, or come within `patience`.
    std::string read(Tail::Reader& reader, nanoseconds patience = milliseconds{1}) {
        std::optional<std::string> lines;
        tasks.spawn("read", read_into(reader, clock.now() + patience, lines));
        CHECK(clock.run_until(
            io, [&lines] { return lines.has_value(); }, clock.now() + patience + seconds{1}));
        return lines.value_or("");
    }
    void read_nothing_for(nanoseconds time) { clock.run_for(io, time); }
    void see(Sight sight, const std::string& model = "gpt", LaneId lane = kDefaultLane) {
        Sighting seen{sight, lane, "", 1, {}};
        seen.fields.id = "r";
        seen.fields.model = model;
        if (tap.wants(sight)) tap.see(std::move(seen));
    }

    asio::io_context io;
    test::SimClock clock;
    observe::Tap tap{io.get_executor()};
    Tail tail{io.get_executor(), clock, tap,
              TailLanes{[](LaneId lane) {
                            return lane == kDefaultLane ? std::string("default") : "europe";
                        },
                        [] { return kLanes; }}};
    TaskGroup tasks{io.get_executor(), clock};
};

std::size_t lines_in(const std::string& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_CASE("control/tail: the query names outcomes, lane and model") {
    const auto all = parse_tail_query("", kLanes).value();
    CHECK(all.sights == observe::kAllSights);
    const auto some =
        parse_tail_query("outcome=dead,retried&lane=europe&model=a%2Fb%20c", kLanes).value();
    CHECK(some.sights == (bit(Sight::dead) | bit(Sight::retried)));
    CHECK(some.lane == "europe");
    CHECK(some.model == "a/b c");
    struct Case {
        const char* query;
        const char* complaint;
    };
    const Case cases[] = {
        {"outcome=deed", "outcome: deed is none; there are accepted, duplicate"},
        {"outcome=", "outcome: name at least one"},
        {"user=x", "there are the filters outcome, lane and model"},
        {"lane=eu%22rope", "lane: there is no \"eu\"rope\"; there are default, europe"},
        {"lane=", "lane: there is no \"\"; there are default, europe"},
        {"model=%4", "model: broken percent-encoding"},
        {"model=%zz", "model: broken percent-encoding"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.query);
        const auto got = parse_tail_query(test.query, kLanes);
        REQUIRE_FALSE(got.has_value());
        CHECK(got.error().context.starts_with(test.complaint));
    }
}

TEST_CASE("control/tail: a line has what there is, escaped") {
    Sighting seen{Sight::dead, kDefaultLane, "400", 1, {"a\"b\n", "p", "m", "error", 1, 2, 3}};
    const auto at = WallTime{} + milliseconds{1'767'225'600'123};
    CHECK(tail_line(seen, "default", at) ==
          R"({"at":"2026-01-01T00:00:00.123Z","outcome":"dead","lane":"default","id":"a\"b\u000a",)"
          R"("provider":"p","model":"m","input_tokens":1,"output_tokens":2,"total_tokens":3,)"
          R"("status":"error","reason":"400"})"
          "\n");
    CHECK(tail_line({Sight::dropped, kDefaultLane, "oldest", 7, {}}, "x", at) ==
          R"({"at":"2026-01-01T00:00:00.123Z","outcome":"dropped","lane":"x",)"
          R"("reason":"oldest","events":7})"
          "\n");
    CHECK(tail_line({Sight::shed, kDefaultLane, "", 1, {}}, "", at) ==
          R"({"at":"2026-01-01T00:00:00.123Z","outcome":"shed"})"
          "\n");
}

TEST_CASE("control/tail: nothing is gathered before somebody watches, and after") {
    World world;
    CHECK_FALSE(world.tap.watched());
    auto reader = world.tail.join({});
    CHECK(world.tap.wants(Sight::accepted));
    reader.reset();
    CHECK_FALSE(world.tap.watched());
    // What the first one missed does not concern the next.
    world.tap.see({Sight::dropped, kDefaultLane, "oldest", 9, {}}, std::string(64U << 20U, ' '));
    world.read_nothing_for(milliseconds{200});
    reader = world.tail.join({});
    CHECK(world.read(*reader, seconds{1}).empty());
}

TEST_CASE("control/tail: each gets what it asked for") {
    World world;
    const auto dead = world.tail.join(world.tail.filter_of("outcome=dead").value());
    const auto europe = world.tail.join(world.tail.filter_of("lane=europe").value());
    const auto model = world.tail.join(world.tail.filter_of("model=claude").value());
    world.see(Sight::dead);
    world.see(Sight::delivered, "claude");
    world.see(Sight::delivered, "gpt", LaneId{1});
    CHECK(lines_in(world.read(*dead)) == 1);
    CHECK(world.read(*europe).find("\"lane\":\"europe\"") != std::string::npos);
    CHECK(lines_in(world.read(*model)) == 1);
    CHECK(world.read(*model).empty());  // in time, with nothing
}

TEST_CASE("control/tail: at most four watch, and a place is free again") {
    World world;
    std::vector<std::unique_ptr<Tail::Reader>> readers;
    for (std::size_t i = 0; i < kTailersMax; ++i) {
        readers.push_back(world.tail.join({}));
        REQUIRE(readers.back() != nullptr);
    }
    CHECK(world.tail.join({}) == nullptr);
    readers.pop_back();
    CHECK(world.tail.join({}) != nullptr);
}

TEST_CASE("control/tail: a slow reader loses lines, is told how many, and holds nobody up") {
    World world;
    const auto slow = world.tail.join({});
    const auto quick = world.tail.join({});
    const std::string model(250, 'm');
    constexpr std::size_t kRounds = 30;
    constexpr std::size_t kEach = 100;  // within the credit of a round
    std::size_t quick_lines = 0;
    for (std::size_t round = 0; round < kRounds; ++round) {
        for (std::size_t i = 0; i < kEach; ++i) world.see(Sight::accepted, model);
        quick_lines += lines_in(world.read(*quick, milliseconds{100}));
    }
    CHECK(quick_lines == kRounds * kEach);
    const auto kept = world.read(*slow);
    CHECK(kept.size() <= kTailBytesMax + 64);
    const auto shown = lines_in(kept) - 1;
    CHECK(shown < kRounds * kEach);
    CHECK(kept.ends_with("{\"not_shown\":" + std::to_string(kRounds * kEach - shown) + "}\n"));
    // From here on it has everything again.
    world.see(Sight::accepted);
    CHECK(lines_in(world.read(*slow)) == 1);
}

TEST_CASE("control/tail: a flood is cut to the rate, and told") {
    World world;
    const auto reader = world.tail.join({});
    constexpr int kFlood = static_cast<int>(kTailBurst) + 500;
    for (int i = 0; i < kFlood; ++i) world.see(Sight::accepted, "");
    auto got = world.read(*reader);
    got += world.read(*reader, seconds{1});
    CHECK(got.find("{\"not_shown\":") != std::string::npos);
    CHECK(lines_in(got) <= static_cast<std::size_t>(kTailBurst) + 2);
    world.read(*reader, seconds{2});  // the credit comes back
    world.see(Sight::accepted);
    CHECK(lines_in(world.read(*reader)) == 1);
}
