#include "spool/id_plan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "core/random.h"

namespace opsrelay::spool {
namespace {

constexpr milliseconds kWindow{12'000};  // a generation takes 1 s

IdRun run_of(RunName name, std::uint64_t ids, std::int64_t oldest, std::int64_t newest) {
    return {{name, ids, oldest, newest, pages_for(ids), 0, {}}, nullptr};
}

TEST_CASE("spool/id_plan: runs go to the open generation until it is full or over") {
    IdPlan plan(kWindow, 1200);
    CHECK_FALSE(plan.generation_end_ms());
    const auto first = plan.next_run(0);
    plan.set_runs(std::vector{run_of(first, 60, 0, 400)});
    CHECK(plan.generation_end_ms() == 1000);
    const auto second = plan.next_run(999);
    CHECK(second.generation == first.generation);
    CHECK(second.run > first.run);
    CHECK(plan.next_run(1000).generation > first.generation);  // over
    IdPlan full(kWindow, 1200);
    full.set_runs(std::vector{run_of({7, 3}, 100, 0, 400)});
    CHECK(full.next_run(401).generation == 8);
}

TEST_CASE("spool/id_plan: a generation is forgotten when all of it is older than the window") {
    IdPlan plan(kWindow, 1200);
    plan.set_runs(std::vector{run_of({1, 1}, 10, 0, 500), run_of({1, 2}, 10, 500, 900),
                              run_of({2, 3}, 10, 1000, 1800)});
    CHECK(plan.oldest_ms() == 0);
    CHECK(plan.expired(12'900, 0).empty());
    CHECK(plan.expired(12'901, 0) == std::vector<RunName>{{1, 1}, {1, 2}});
    CHECK(plan.expired(13'801, 0).size() == 3);
}

TEST_CASE("spool/id_plan: a generation is forgotten when ids_max newer ids are remembered") {
    IdPlan plan(kWindow, 1200);
    plan.set_runs(std::vector{run_of({1, 1}, 100, 0, 10), run_of({2, 2}, 600, 10, 20),
                              run_of({3, 3}, 500, 20, 30)});
    CHECK(plan.ids() == 1200);
    CHECK(plan.expired(30, 99).empty());
    CHECK(plan.expired(30, 100) == std::vector<RunName>{{1, 1}});
    CHECK(plan.expired(30, 699) == std::vector<RunName>{{1, 1}});
    CHECK(plan.expired(30, 700).size() == 2);
}

TEST_CASE("spool/id_plan: what is merged, and under which name") {
    IdPlan plan(kWindow, 1200);
    CHECK_FALSE(plan.next_merge());
    plan.set_runs(std::vector{run_of({1, 1}, 10, 0, 5), run_of({1, 2}, 10, 5, 9)});
    CHECK_FALSE(plan.next_merge());  // the open one takes more runs
    plan.set_runs(std::vector{run_of({1, 2}, 10, 5, 9), run_of({1, 1}, 10, 0, 5),
                              run_of({2, 3}, 10, 1000, 1001)});
    const auto merge = plan.next_merge();
    REQUIRE(merge);
    CHECK(merge->inputs == std::vector<RunName>{{1, 1}, {1, 2}});
    CHECK(merge->output == RunName{1, 4});
    CHECK(plan.next_run(1002).run == 5);  // a name is given once
}

TEST_CASE("spool/id_plan: an open generation of many runs is merged before it is full") {
    IdPlan plan(kWindow, 120'000);
    std::vector<IdRun> runs;
    for (std::uint32_t i = 1; i < IdPlan::kOpenRunsMax; ++i) {
        runs.push_back(run_of({1, i}, 1, 0, 1));
    }
    plan.set_runs(runs);
    CHECK_FALSE(plan.next_merge());
    runs.push_back(run_of({1, 99}, 1, 0, 1));
    plan.set_runs(runs);
    CHECK(plan.next_merge()->inputs.size() == IdPlan::kOpenRunsMax);
}

TEST_CASE("spool/id_plan: beyond twelve closed generations the cheapest neighbours are merged") {
    IdPlan plan(kWindow, 12'000);
    std::vector<IdRun> runs;
    for (std::uint32_t i = 1; i <= 14; ++i) {
        const bool small = i == 5 || i == 6;
        runs.push_back(run_of({i, i}, small ? 1 : 500, i * 100, i * 100 + 99));
    }
    plan.set_runs(runs);
    const auto merge = plan.next_merge();
    REQUIRE(merge);
    CHECK(merge->inputs == std::vector<RunName>{{5, 5}, {6, 6}});
    CHECK(merge->output == RunName{6, 15});
    runs.pop_back();
    plan.set_runs(runs);
    CHECK_FALSE(plan.next_merge());
}

/// Follows the plan's advice with ids that are only counted.
struct Follower {
    struct Known {
        std::uint64_t number;
        std::int64_t at_ms;
    };
    IdPlan plan;
    std::uint64_t ids_max;
    std::map<RunName, std::vector<Known>> runs;
    std::uint64_t numbers = 0;
    std::int64_t now = 0;

    [[nodiscard]] std::vector<IdRun> list() const {
        std::vector<IdRun> all;
        for (const auto& [name, ids] : runs) {
            auto oldest = ids.front().at_ms;
            auto newest = oldest;
            for (const auto& id : ids) {
                oldest = std::min(oldest, id.at_ms);
                newest = std::max(newest, id.at_ms);
            }
            all.push_back(run_of(name, ids.size(), oldest, newest));
        }
        return all;
    }
    void seal(std::uint64_t count) {
        const auto name = plan.next_run(now);
        for (std::uint64_t i = 0; i < count; ++i) runs[name].push_back({numbers++, now});
        plan.set_runs(list());
    }
    void tidy() {
        for (const auto& name : plan.expired(now, 0)) runs.erase(name);
        plan.set_runs(list());
        for (int merges = 0; merges < 40; ++merges) {
            const auto merge = plan.next_merge();
            if (!merge) return;
            std::vector<Known> all;
            for (const auto& name : merge->inputs) {
                all.insert(all.end(), runs[name].begin(), runs[name].end());
                runs.erase(name);
            }
            runs[merge->output] = std::move(all);
            plan.set_runs(list());
        }
        FAIL("merging does not end");
    }
    void check() const {
        std::set<std::uint64_t> held;
        for (const auto& [name, ids] : runs) {
            for (const auto& id : ids) held.insert(id.number);
        }
        CHECK(held.size() == plan.ids());
        // Everything within both limits is there...
        const auto oldest = now - kWindow.count();
        for (const auto& [number, at] : history) {
            const bool within = at >= oldest && numbers - number <= ids_max;
            if (within) REQUIRE(held.contains(number));
        }
        // ...what is beyond is bounded, and so is what has to be asked.
        CHECK(held.size() <= ids_max + ids_max / 4 + 1);
        std::set<std::uint32_t> generations;
        for (const auto& [name, ids] : runs) generations.insert(name.generation);
        CHECK(generations.size() <= IdPlan::kGenerations + 1);
        CHECK(runs.size() <= IdPlan::kGenerations + IdPlan::kOpenRunsMax);
    }
    std::deque<std::pair<std::uint64_t, std::int64_t>> history;
};

TEST_CASE("spool/id_plan: whatever the rate, no id within the limits is forgotten, few are kept") {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        CAPTURE(seed);
        Xoshiro rng{seed};
        Follower world{IdPlan(kWindow, 600), 600, {}, 0, 0, {}};
        auto pause = rng.between(1, 2000);
        auto size = rng.between(1, 50);
        for (int step = 0; step < 300; ++step) {
            if (rng.chance(50)) pause = rng.between(1, 2000);
            if (rng.chance(50)) size = rng.between(1, 50);
            world.now += static_cast<std::int64_t>(rng.between(0, pause));
            const auto before = world.numbers;
            world.seal(rng.between(1, size));
            for (auto i = before; i < world.numbers; ++i) world.history.emplace_back(i, world.now);
            while (world.history.size() > 700) world.history.pop_front();
            world.tidy();
            world.check();
        }
    }
}

}  // namespace
}  // namespace opsrelay::spool
