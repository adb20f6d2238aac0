#include "admit/dedupe.h"

#include <doctest/doctest.h>

#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/random.h"

namespace opsrelay::admit {

namespace {

constexpr std::uint64_t kSalt = 42;

IdHash hash_of(std::uint64_t id) {
    return hash_id(kSalt, kDefaultLane, "id-" + std::to_string(id));
}

// The rules of DedupeIndex, written down plainly.
class Model {
public:
    explicit Model(std::size_t ids_max) : half_(std::max<std::size_t>(ids_max / 2, 1)) {}

    struct Known {
        std::uint64_t content;
        Position position;
        bool recovered;
    };

    Verdict admit(std::uint64_t id, std::uint64_t content, Position position) {
        if (const auto* known = find(id)) {
            if (known->recovered) return {false, DuplicateKind::unknown, 0};
            const auto same = known->content == content;
            return {false, same ? DuplicateKind::same : DuplicateKind::conflict, known->position};
        }
        insert(id, {content, position, false});
        return {};
    }
    void recover(std::uint64_t id) {
        if (find(id) == nullptr) insert(id, {0, 0, true});
    }
    void forget(std::uint64_t id) {
        if (current_.erase(id) == 0) previous_.erase(id);
    }
    [[nodiscard]] std::size_t size() const { return current_.size() + previous_.size(); }
    [[nodiscard]] std::uint64_t evicted() const { return evicted_; }

private:
    [[nodiscard]] const Known* find(std::uint64_t id) const {
        for (const auto* generation : {&current_, &previous_}) {
            const auto found = generation->find(id);
            if (found != generation->end()) return &found->second;
        }
        return nullptr;
    }
    void insert(std::uint64_t id, Known known) {
        if (current_.size() == half_) {
            evicted_ += previous_.size();
            previous_ = std::exchange(current_, {});
        }
        current_.emplace(id, known);
    }

    std::size_t half_;
    std::unordered_map<std::uint64_t, Known> current_;
    std::unordered_map<std::uint64_t, Known> previous_;
    std::uint64_t evicted_ = 0;
};

bool equal(const Verdict& a, const Verdict& b) {
    if (a.fresh || b.fresh) return a.fresh == b.fresh;
    return a.kind == b.kind && a.first_position == b.first_position;
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
    DedupeIndex index({.ids_max = 1000});
    CHECK(index.admit(hash_of(1), 0xAAAA, 5, 100).fresh);
    const auto same = index.admit(hash_of(1), 0xAAAA, 6, 101);
    CHECK_FALSE(same.fresh);
    CHECK(same.kind == DuplicateKind::same);
    CHECK(same.first_position == 5);
    const auto conflict = index.admit(hash_of(1), 0xBBBB, 6, 102);
    CHECK(conflict.kind == DuplicateKind::conflict);
    CHECK(conflict.first_position == 5);
    CHECK(index.admit(hash_of(1), 0xAAAA, 6, 103).kind == DuplicateKind::same);  // the first wins

    index.recover(hash_of(2), 50);
    const auto unknown = index.admit(hash_of(2), 0xAAAA, 6, 104);
    CHECK_FALSE(unknown.fresh);
    CHECK(unknown.kind == DuplicateKind::unknown);
    CHECK(unknown.first_position == 0);
    index.recover(hash_of(1), 50);  // known already
    CHECK(index.size() == 2);
}

TEST_CASE("admit/dedupe: a forgotten id is fresh again, the others stay") {
    DedupeIndex index({.ids_max = 20'000});
    constexpr std::uint64_t kIds = 9'000;
    for (std::uint64_t id = 0; id < kIds; ++id) {
        REQUIRE(index.admit(hash_of(id), id, id + 1, 0).fresh);
    }
    for (std::uint64_t id = 0; id < kIds; id += 3) index.forget(hash_of(id));
    index.forget(hash_of(kIds + 1));  // never seen
    CHECK(index.size() == kIds - kIds / 3);
    for (std::uint64_t id = 0; id < kIds; ++id) {
        const auto verdict = index.admit(hash_of(id), id, kIds + id, 0);
        REQUIRE(verdict.fresh == (id % 3 == 0));
        if (!verdict.fresh) REQUIRE(verdict.first_position == id + 1);
    }
}

TEST_CASE("admit/dedupe: the hash that marks a free slot is an id like any other") {
    DedupeIndex index({.ids_max = 16});
    CHECK(index.admit(IdHash{}, 1, 1, 0).fresh);
    CHECK_FALSE(index.admit(IdHash{}, 1, 2, 0).fresh);
    CHECK(index.size() == 1);
    index.forget(IdHash{});
    CHECK(index.size() == 0);
    CHECK(index.admit(IdHash{}, 1, 2, 0).fresh);
}

TEST_CASE("admit/dedupe: ids that share a slot are told apart, also while some are forgotten") {
    // Low bits all ones: every probe wraps around the end of the table.
    const auto crowded = [](std::uint64_t i) { return IdHash{i, ~0ULL - (i % 3)}; };
    DedupeIndex index({.ids_max = 64});
    for (std::uint64_t i = 0; i < 30; ++i) REQUIRE(index.admit(crowded(i), i, i + 1, 0).fresh);
    for (std::uint64_t i = 0; i < 30; i += 2) index.forget(crowded(i));
    for (std::uint64_t i = 1; i < 30; i += 2) {
        REQUIRE(index.admit(crowded(i), i, 99, 0).first_position == i + 1);
    }
    for (std::uint64_t i = 0; i < 30; i += 2) REQUIRE(index.admit(crowded(i), i, 100, 0).fresh);
}

TEST_CASE("admit/dedupe: between half and all of ids_max are remembered, the rest is counted") {
    for (const std::size_t ids_max : {0U, 1U, 2U, 3U, 100U, 10'000U}) {
        CAPTURE(ids_max);
        DedupeIndex index({.ids_max = ids_max});
        const auto half = std::max<std::size_t>(ids_max / 2, 1);
        CHECK_FALSE(index.oldest_unix_ms());
        for (std::uint64_t id = 0; id < 50'000; ++id) {
            REQUIRE(index.admit(hash_of(id), 0, id + 1, static_cast<std::int64_t>(id)).fresh);
            REQUIRE(index.size() <= 2 * half);
            REQUIRE(index.size() + index.evicted() == id + 1);
            // What is said to be remembered is.
            const auto oldest = index.oldest_unix_ms();
            REQUIRE(oldest);
            REQUIRE(static_cast<std::uint64_t>(*oldest) == index.evicted());
        }
        CHECK(index.size() >= half);
        const auto oldest = static_cast<std::uint64_t>(*index.oldest_unix_ms());
        CHECK_FALSE(index.admit(hash_of(oldest), 0, 50'001, 0).fresh);
        CHECK_FALSE(index.admit(hash_of(49'999), 0, 50'001, 0).fresh);
        CHECK(index.admit(hash_of(oldest - 1), 0, 50'001, 0).fresh);
        // 24 bytes an entry, at most four entries an id of the bound, at least the first tables.
        CHECK(index.bytes().count <= 24 * std::max<std::size_t>(8 * half, 8192));
    }
}

TEST_CASE("admit/dedupe: tables start small and grow to the bound") {
    DedupeIndex index({.ids_max = 262'144});
    CHECK(index.bytes().count == 2 * 4096 * 24);
    for (std::uint64_t id = 0; id < 300'000; ++id) {
        REQUIRE(
            index.admit({id * 0x9e3779b97f4a7c15ULL, id * 0xbf58476d1ce4e5b9ULL + 1}, 0, id + 1, 0)
                .fresh);
    }
    CHECK(index.bytes().count == 2 * 262'144 * 24);
    CHECK(index.bytes().count <= 262'144 * 48);
}

TEST_CASE("admit/dedupe: positions beyond 32 bits are told exactly") {
    DedupeIndex index({.ids_max = 100});
    const Position edge = 1ULL << 31U;
    const Position start = 7 * edge - 20;
    for (std::uint64_t i = 0; i < 40; ++i) REQUIRE(index.admit(hash_of(i), 0, start + i, 0).fresh);
    for (std::uint64_t i = 0; i < 40; ++i) {
        CHECK(index.admit(hash_of(i), 0, start + 40, 0).first_position == start + i);
    }
}

TEST_CASE("admit/dedupe: a million random ids are all fresh once and known after") {
    DedupeIndex index({.ids_max = 2'200'000});
    Xoshiro rng{20260504};
    std::vector<IdHash> ids;
    ids.reserve(1'000'000);
    for (std::size_t i = 0; i < 1'000'000; ++i) {
        ids.push_back(hash_id(rng.next(), kDefaultLane, "x"));
        REQUIRE(index.admit(ids.back(), i, i + 1, 0).fresh);
    }
    for (std::size_t i = 0; i < ids.size(); i += 7) {
        REQUIRE(index.admit(ids[i], i, ids.size() + 1, 0).first_position == i + 1);
    }
    CHECK(index.evicted() == 0);
}

TEST_CASE("admit/dedupe: random actions end as in the model") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        Xoshiro rng{seed};
        const auto ids_max = rng.between(2, 600);
        DedupeIndex index({.ids_max = ids_max});
        Model model(ids_max);
        Position position = seed << 30U;
        for (int step = 0; step < 20'000; ++step) {
            const auto id = rng.between(0, 2 * ids_max);
            const auto action = rng.between(0, 9);
            if (action == 0) {
                index.forget(hash_of(id));
                model.forget(id);
            } else if (action == 1) {
                index.recover(hash_of(id), step);
                model.recover(id);
            } else {
                const auto content = rng.between(0, 1);
                const auto got = index.admit(hash_of(id), content, position, step);
                REQUIRE(equal(got, model.admit(id, content, position)));
                if (got.fresh) ++position;
            }
            REQUIRE(index.size() == model.size());
            REQUIRE(index.evicted() == model.evicted());
        }
    }
}

}  // namespace opsrelay::admit
