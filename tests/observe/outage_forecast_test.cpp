#include "observe/outage_forecast.h"

#include <doctest/doctest.h>

#include <cmath>

namespace opsrelay::observe {

namespace {

TimePoint at(int seconds_since) { return TimePoint{seconds{seconds_since}}; }

}  // namespace

TEST_CASE("observe/outage_forecast: no end in sight without a rate") {
    OutageForecast forecast;
    CHECK(std::isinf(forecast.seconds_left(1_MiB)));
    forecast.note(at(0), 0_B);
    CHECK(std::isinf(forecast.seconds_left(1_MiB)));
    forecast.note(at(0), 5_MiB);  // no time has passed
    CHECK(std::isinf(forecast.seconds_left(1_MiB)));
}

TEST_CASE("observe/outage_forecast: the room by what the last five minutes wrote") {
    OutageForecast forecast;
    std::uint64_t written = 0;
    int second = 0;
    for (; second <= 600; ++second) forecast.note(at(second), Bytes{written += 1'000});
    CHECK(forecast.seconds_left(Bytes{60'000}) == doctest::Approx(60));
    CHECK(forecast.seconds_left(0_B) == 0);
    // Ten times as much: after half of the window it shows by half, after all of it in full.
    for (; second <= 750; ++second) forecast.note(at(second), Bytes{written += 10'000});
    CHECK(forecast.seconds_left(Bytes{60'000}) == doctest::Approx(60 / 5.5).epsilon(0.05));
    for (; second <= 1'100; ++second) forecast.note(at(second), Bytes{written += 10'000});
    CHECK(forecast.seconds_left(Bytes{60'000}) == doctest::Approx(6));
    // Silence.
    for (; second <= 1'500; ++second) forecast.note(at(second), Bytes{written});
    CHECK(std::isinf(forecast.seconds_left(Bytes{60'000})));
}

TEST_CASE("observe/outage_forecast: looked at rarely it goes by what it has") {
    OutageForecast forecast;
    forecast.note(at(0), 0_B);
    forecast.note(at(10'000), Bytes{1'000});
    CHECK(forecast.seconds_left(Bytes{100}) == doctest::Approx(1'000));
}

}  // namespace opsrelay::observe
