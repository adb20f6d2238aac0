#include "admit/dedupe.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/random.h"

namespace opsrelay::admit {

namespace {

constexpr std::uint64_t kSalt = 42;

IdHash hash_of(std::uint64_t id) {
    return hash_id(kSalt, kDefaultLane, "id-" + std::to_string(id));
}

using Kind = Verdict::Kind;

std::shared_ptr<const IdFilter> filter_of(const std::vector<std::uint64_t>& ids,
                                          unsigned bits = 16) {
    auto filter = std::make_shared<IdFilter>(std::max<std::size_t>(1, ids.size()), bits);
    for (const auto id : ids) filter->insert(hash_of(id));
    return filter;
}

}  // namespace

TEST_CASE("admit/dedupe: the hash depends on salt, lane and every byte of the id") {
    std::set<IdHash> seen;
    std::size_t count = 0;
    const auto add = [&](std::uint64_t salt, LaneId lane, std::string_view id) {
        seen.insert(hash_id(salt, lane, id));
        ++count;
    };
    for (const auto salt : {1ULL, 2ULL}) {
        for (const auto lane : {LaneId{0}, LaneId{1}, LaneId{256}}) {
            for (const std::size_t length : {0U, 1U, 36U, 237U, 238U, 256U, 257U, 1000U}) {
                std::string id(length, 'a');
                add(salt, lane, id);
                if (length == 0) continue;
                id.back() = 'b';
                add(salt, lane, id);
            }
        }
    }
    CHECK(seen.size() == count);
    CHECK(hash_id(1, LaneId{3}, "x") == hash_id(1, LaneId{3}, std::string("x")));
    // The id log outlives the process: later versions must compute the same.
    CHECK(hash_id(42, LaneId{0}, "id-1") == IdHash{0x1fdb3240adc7c105, 0x253c1ae8a849ed06});
}

TEST_CASE("admit/dedupe: a repeat is the same, a conflict, or unknown after a restart") {
    DedupeIndex index({.table_ids = 1000});
    CHECK(index.admit(hash_of(1), 0xAAAA, 5).kind == Kind::fresh);
    const auto same = index.admit(hash_of(1), 0xAAAA, 6);
    CHECK(same.kind == Kind::duplicate);
    CHECK(same.duplicate == DuplicateKind::same);
    CHECK(same.first_position == 5);
    const auto conflict = index.admit(hash_of(1), 0xBBBB, 6);
    CHECK(conflict.duplicate == DuplicateKind::conflict);
    CHECK(conflict.first_position == 5);
    CHECK(index.admit(hash_of(1), 0xAAAA, 6).duplicate == DuplicateKind::same);  // the first wins

    index.recover(hash_of(2));
    const auto unknown = index.admit(hash_of(2), 0xAAAA, 6);
    CHECK(unknown.kind == Kind::duplicate);
    CHECK(unknown.duplicate == DuplicateKind::unknown);
    CHECK(unknown.first_position == 0);
    index.recover(hash_of(1));  // known already
    CHECK(index.size() == 2);
}

TEST_CASE("admit/dedupe: the hash that marks a free slot is an id like any other") {
    DedupeIndex index({.table_ids = 16});
    CHECK(index.admit(IdHash{}, 1, 1).kind == Kind::fresh);
    CHECK(index.admit(IdHash{}, 1, 2).kind == Kind::duplicate);
    CHECK(index.size() == 1);
}

TEST_CASE("admit/dedupe: ids that share a slot are told apart") {
    // Low bits all ones: every probe wraps around the end of the table.
    const auto crowded = [](std::uint64_t i) { return IdHash{i, ~0ULL - (i % 3)}; };
    DedupeIndex index({.table_ids = 32});
    for (std::uint64_t i = 0; i < 30; ++i) {
        REQUIRE(index.admit(crowded(i), i, i + 1).kind == Kind::fresh);
    }
    for (std::uint64_t i = 0; i < 30; ++i) {
        REQUIRE(index.admit(crowded(i), i, 99).first_position == i + 1);
    }
}

TEST_CASE("admit/dedupe: an id that a filter knows is a maybe, and its repeat a duplicate of it") {
    DedupeIndex index({.table_ids = 16});
    index.set_filters({filter_of({1, 2}), filter_of({3})});
    for (const std::uint64_t id : {1U, 2U, 3U}) {
        CAPTURE(id);
        CHECK(index.admit(hash_of(id), id, id).kind == Kind::maybe);
        const auto repeat = index.admit(hash_of(id), id, 10);
        CHECK(repeat.kind == Kind::duplicate);
        CHECK(repeat.first_position == id);
    }
    CHECK(index.admit(hash_of(4), 4, 4).kind == Kind::fresh);
    index.set_filters({});
    CHECK(index.admit(hash_of(1), 1, 11).kind == Kind::duplicate);  // still in its table
}

TEST_CASE("admit/dedupe: tables wholly covered by runs are dropped, and no other id is forgotten") {
    DedupeIndex index({.table_ids = 100});
    for (std::uint64_t id = 1; id <= 950; ++id) {
        REQUIRE(index.admit(hash_of(id), 0, id).kind == Kind::fresh);
    }
    CHECK(index.size() == 950);
    index.drop_covered(0);
    CHECK(index.size() == 950);
    index.drop_covered(299);
    CHECK(index.size() == 750);
    CHECK(index.admit(hash_of(201), 0, 951).kind == Kind::duplicate);
    index.drop_covered(300);
    CHECK(index.size() == 650);
    index.drop_covered(950);
    CHECK(index.size() == 0);
    CHECK(index.admit(hash_of(950), 0, 951).kind == Kind::fresh);
    index.drop_covered(950);  // a table that goes on behind what is covered stays
    CHECK(index.admit(hash_of(950), 0, 952).kind == Kind::duplicate);
}

TEST_CASE("admit/dedupe: recovered ids stay until the first run covers them") {
    DedupeIndex index({.table_ids = 4});
    for (std::uint64_t id = 1; id <= 10; ++id) index.recover(hash_of(id));
    CHECK(index.admit(hash_of(10), 0, 1).kind == Kind::duplicate);
    CHECK(index.admit(hash_of(11), 0, 1).kind == Kind::fresh);
    index.drop_covered(0);
    CHECK(index.admit(hash_of(1), 0, 2).kind == Kind::fresh);
    CHECK(index.admit(hash_of(11), 0, 3).kind == Kind::duplicate);  // behind what is covered
}

TEST_CASE("admit/dedupe: tables start small, and what was dropped gives its memory back") {
    DedupeIndex index({});
    CHECK(index.bytes().count == 4096 * 24);
    Xoshiro rng{7};
    const auto admit = [&](Position position) {
        REQUIRE(index.admit({rng.next(), rng.next()}, 0, position).kind == Kind::fresh);
    };
    for (Position position = 1; position <= 150'000; ++position) {
        admit(position);
        if (position % 65'536 == 1'000) index.drop_covered(position - 1'000);
    }
    CHECK(index.bytes().count <= 2 * 131'072 * 24);
    index.drop_covered(150'000);
    CHECK(index.bytes().count == 4096 * 24);
    index.drop_covered(150'000);
    CHECK(index.bytes().count == 4096 * 24);
}

TEST_CASE("admit/dedupe: positions beyond 32 bits are told exactly") {
    DedupeIndex index({.table_ids = 100});
    const Position edge = 1ULL << 31U;
    const Position start = 7 * edge - 20;
    for (std::uint64_t i = 0; i < 40; ++i) {
        REQUIRE(index.admit(hash_of(i), 0, start + i).kind == Kind::fresh);
    }
    for (std::uint64_t i = 0; i < 40; ++i) {
        CHECK(index.admit(hash_of(i), 0, start + 40).first_position == start + i);
    }
}

// Nothing is said to be a duplicate that was not offered before, and nothing that is in a table or
// a filter is said to be fresh: the only doubt is maybe.
TEST_CASE("admit/dedupe: random actions never forget an id and never make one up") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        Xoshiro rng{seed};
        const auto table_ids = rng.between(1, 200);
        DedupeIndex index({.table_ids = table_ids});
        std::unordered_map<std::uint64_t, Position> known;  // 0: recovered
        std::vector<std::uint64_t> in_runs;
        std::vector<std::uint64_t> recent;
        Position position = seed << 30U;
        for (std::uint64_t id = 1'000'000; id < 1'000'050; ++id) {
            index.recover(hash_of(id));
            known[id] = 0;
            recent.push_back(id);
        }
        for (int step = 0; step < 5'000; ++step) {
            const auto id = rng.chance(100) ? 1'000'000 + rng.between(0, 49) : rng.between(0, 3000);
            const auto got = index.admit(hash_of(id), 0, position + 1);
            const auto found = known.find(id);
            if (found == known.end()) {
                REQUIRE(got.kind != Kind::duplicate);
            } else {
                REQUIRE(got.kind != Kind::fresh);
            }
            if (got.kind == Kind::duplicate) {
                REQUIRE(got.first_position == found->second);
            } else {
                known[id] = ++position;
                recent.push_back(id);
            }
            if (!rng.chance(5)) continue;
            in_runs.insert(in_runs.end(), recent.begin(), recent.end());
            recent.clear();
            index.set_filters({filter_of(in_runs, rng.chance(500) ? 16 : 1)});
            index.drop_covered(position);
        }
    }
}

}  // namespace opsrelay::admit
