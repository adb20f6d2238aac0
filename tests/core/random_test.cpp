#include "core/random.h"

#include <doctest/doctest.h>

#include <set>

namespace opsrelay {

TEST_CASE("core/random: one seed gives one sequence") {
    Xoshiro first{7};
    Xoshiro second{7};
    Xoshiro other{8};
    bool differs = false;
    for (int i = 0; i < 100; ++i) {
        const auto value = first.next();
        CHECK(value == second.next());
        differs = differs || value != other.next();
    }
    CHECK(differs);
}

TEST_CASE("core/random: between stays in its range and reaches both ends") {
    Xoshiro rng{1};
    std::set<std::uint64_t> seen;
    for (int i = 0; i < 1000; ++i) {
        const auto value = rng.between(std::uint64_t{3}, std::uint64_t{7});
        CHECK(value >= 3);
        CHECK(value <= 7);
        seen.insert(value);
    }
    CHECK(seen.size() == 5);
    CHECK(rng.between(std::uint64_t{9}, std::uint64_t{9}) == 9);
    CHECK(rng.between(milliseconds{5}, milliseconds{5}) == milliseconds{5});
}

TEST_CASE("core/random: chance is certain at both ends") {
    Xoshiro rng{2};
    for (int i = 0; i < 100; ++i) {
        CHECK_FALSE(rng.chance(0));
        CHECK(rng.chance(1000));
    }
}

}  // namespace opsrelay
