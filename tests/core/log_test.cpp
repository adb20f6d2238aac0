#include "core/log.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace opsrelay {

namespace {

struct Captured {
    std::vector<std::string> lines;
    Captured() {
        log::redirect(
            [](void* self, log::Level, std::string_view line) {
                static_cast<Captured*>(self)->lines.emplace_back(line);
            },
            this);
    }
    ~Captured() { log::redirect(nullptr, nullptr); }
};

class FixedClock final : public Clock {
public:
    TimePoint time{};
    [[nodiscard]] TimePoint now() const noexcept override { return time; }
    [[nodiscard]] WallTime wall_now() const noexcept override { return {}; }
    void arm(asio::steady_timer&, TimePoint) override {}
    void disarm(asio::steady_timer&) noexcept override {}
};

}  // namespace

TEST_CASE("core/log: logfmt quotes what would break a line") {
    const Captured captured;
    log::configure(log::Format::logfmt, log::Level::info);
    log::warn("forward", "batch refused",
              {{"status", 503}, {"ratio", 0.5}, {"ok", false}, {"why", "a \"b\"\nc"}, {"to", "x"}});
    REQUIRE(captured.lines.size() == 1);
    CHECK(captured.lines[0] ==
          R"(level=warn stage=forward msg="batch refused" status=503 ratio=0.5 ok=false )"
          R"(why="a \"b\"\u000ac" to=x)");
}

TEST_CASE("core/log: JSON lines have the same fields") {
    const Captured captured;
    log::configure(log::Format::json, log::Level::info);
    log::error("spool", "commit failed", {{"error", "disk \\ full"}, {"events", 3U}});
    log::configure(log::Format::logfmt, log::Level::info);
    REQUIRE(captured.lines.size() == 1);
    CHECK(captured.lines[0] == R"("level":"error","stage":"spool","msg":"commit failed",)"
                               R"("error":"disk \\ full","events":3)");
}

TEST_CASE(
    "core/log: the throttle lets one line per cause and interval through, and counts the rest") {
    FixedClock clock;
    log::Throttle throttle(clock, milliseconds{1000});
    CHECK(throttle.allow("reset") == 0U);
    CHECK_FALSE(throttle.allow("reset").has_value());
    CHECK_FALSE(throttle.allow("reset").has_value());
    CHECK(throttle.allow("timeout") == 0U);
    clock.time += milliseconds{1000};
    CHECK(throttle.allow("reset") == 2U);
    CHECK_FALSE(throttle.allow("reset").has_value());
}

TEST_CASE("core/log: a cause that goes on for days is told ever more rarely") {
    FixedClock clock;
    log::Throttle throttle(clock, milliseconds{60'000});
    std::vector<std::int64_t> told;  // minutes
    std::uint64_t hidden = 0;
    const auto minutes_of = [&](std::int64_t from, std::int64_t to) {
        for (auto minute = from; minute < to; ++minute) {
            clock.time = TimePoint{} + minutes{minute};
            for (int i = 0; i < 3; ++i) {
                if (const auto before = throttle.allow("down")) {
                    told.push_back(minute);
                    hidden += *before;
                }
            }
        }
    };
    minutes_of(0, 60);
    CHECK(told == std::vector<std::int64_t>{0, 1, 3, 7, 15, 30, 45});
    CHECK(hidden == 45 * 3 - 6);  // what was held back since the last line is not told yet
    told.clear();
    minutes_of(60, 60 + 24 * 60);
    CHECK(told.size() == 96);
    told.clear();
    minutes_of(2000, 2003);  // it was quiet, and comes back: as the first time
    CHECK(told == std::vector<std::int64_t>{2000, 2001});
}

}  // namespace opsrelay
