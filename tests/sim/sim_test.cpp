// Random worlds. RELAYTEST_SEEDS=N runs N of them (200), RELAYTEST_SEED=S only the one numbered S,
// RELAYTEST_FIRST=S begins with that one, RELAYTEST_SECONDS=T ends after T seconds at the latest.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "sim/sim_world.h"
#include "support/log_capture.h"

namespace opsrelay::sim {

namespace {

constexpr std::uint64_t kSeedsForCoverage = 200;  // fewer do not reach every rare path
constexpr seconds kProgressEvery{20};
constexpr std::size_t kLogTail = 4000;

std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
    const char* text = std::getenv(name);
    return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

struct Run {
    Outcome outcome;
    std::string log;
    bool operator==(const Run&) const = default;
};

Run run_seed(std::uint64_t seed) {
    test::LogCapture capture;
    Run run;
    {
        SimWorld world(seed);
        run.outcome = world.run();
    }
    for (const auto& line : capture.lines()) run.log += line.text + '\n';
    return run;
}

/// What all seeds so far did, and when to say so.
struct Progress {
    using Clock = std::chrono::steady_clock;
    std::uint64_t seeds = 0;
    std::uint64_t acknowledged = 0;
    std::uint64_t requests = 0;
    std::uint64_t repeated = 0;
    std::int64_t virtual_seconds = 0;
    Coverage coverage;
    Clock::time_point began = Clock::now();
    Clock::time_point told = began;

    void add(const Outcome& outcome) {
        ++seeds;
        acknowledged += outcome.acknowledged;
        requests += outcome.requests;
        repeated += outcome.repeated;
        virtual_seconds += outcome.virtual_seconds;
        coverage.add(outcome.coverage);
        if (Clock::now() - told < kProgressEvery) return;
        told = Clock::now();
        std::fprintf(stderr, "sim: %s\n", text().c_str());
    }
    [[nodiscard]] bool out_of_time(std::uint64_t limit_seconds) const {
        return limit_seconds != 0 &&
               Clock::now() - began >= seconds{static_cast<std::int64_t>(limit_seconds)};
    }
    [[nodiscard]] std::string text() const {
        const std::chrono::duration<double> took = Clock::now() - began;
        return std::to_string(seeds) + " seeds in " + std::to_string(took.count()) + " s, " +
               std::to_string(acknowledged) + " events acknowledged, " + std::to_string(requests) +
               " requests, " + std::to_string(repeated) + " excused repeats, " +
               std::to_string(virtual_seconds / (7 * 86'400)) + " virtual weeks";
    }
};

}  // namespace

TEST_CASE("sim: whatever goes wrong, what was acknowledged is delivered once or kept") {
    const auto only = from_environment("RELAYTEST_SEED", 0);
    const auto count = only != 0 ? 1 : from_environment("RELAYTEST_SEEDS", kSeedsForCoverage);
    const auto first = only != 0 ? only : from_environment("RELAYTEST_FIRST", 1);
    const auto limit = from_environment("RELAYTEST_SECONDS", 0);
    Progress progress;
    for (auto seed = first; seed < first + count && !progress.out_of_time(limit); ++seed) {
        const auto run = run_seed(seed);
        if (!run.outcome.violation.empty()) {
            const auto tail =
                run.log.size() > kLogTail ? run.log.substr(run.log.size() - kLogTail) : run.log;
            FAIL_CHECK("seed " << seed << ": " << run.outcome.violation
                               << "\nreplay with RELAYTEST_SEED=" << seed << "\n"
                               << tail);
        }
        progress.add(run.outcome);
    }
    MESSAGE(progress.text());
    if (progress.seeds < kSeedsForCoverage) return;
    const auto missing = progress.coverage.missing();
    CHECK_MESSAGE(missing.empty(), "never happened:" << missing);
}

TEST_CASE("sim: one seed always gives the same run, to the last line of the log") {
    for (const std::uint64_t seed : {3U, 4U, 5U, 6U}) {  // four lanes, one, two, three
        CAPTURE(seed);
        const auto first = run_seed(seed);
        const auto second = run_seed(seed);
        CHECK(first == second);
        CHECK(first.outcome.acknowledged > 0);
    }
}

}  // namespace opsrelay::sim
