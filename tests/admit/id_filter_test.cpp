#include "admit/id_filter.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/random.h"

namespace opsrelay::admit {

namespace {

std::vector<IdHash> random_ids(std::uint64_t seed, std::size_t count) {
    Xoshiro rng{seed};
    std::vector<IdHash> ids(count);
    for (auto& id : ids) id = {rng.next(), rng.next()};
    return ids;
}

std::size_t found_in(const IdFilter& filter, const std::vector<IdHash>& ids) {
    std::size_t found = 0;
    for (const auto& id : ids) found += filter.may_contain(id) ? 1U : 0U;
    return found;
}

}  // namespace

TEST_CASE("admit/id_filter: every id that was inserted is found, few others are") {
    struct Case {
        const char* name;
        std::size_t ids;
        unsigned bits;
        std::size_t others_max;  // of 100,000
    };
    const Case cases[] = {
        {"one id", 1, 16, 100},
        {"16 bits", 100'000, 16, 250},
        {"12 bits", 100'000, 12, 700},
        {"8 bits", 100'000, 8, 4'000},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto ids = random_ids(1, test.ids);
        IdFilter filter(test.ids, test.bits);
        CHECK(found_in(filter, ids) == 0);
        for (const auto& id : ids) {
            filter.prefetch(id);
            filter.insert(id);
        }
        CHECK(found_in(filter, ids) == test.ids);
        CHECK(found_in(filter, random_ids(2, 100'000)) <= test.others_max);
        CHECK(filter.bytes().count <= test.ids * test.bits / 8 + 64);
    }
}

TEST_CASE("admit/id_filter: extreme hashes stay inside") {
    IdFilter filter(1000, 16);
    for (const IdHash id : {IdHash{0, 0}, IdHash{~0ULL, ~0ULL}, IdHash{~0ULL, 0}}) {
        filter.insert(id);
        CHECK(filter.may_contain(id));
    }
}

TEST_CASE("admit/id_filter: too few bits find everything, which is slow but not wrong") {
    const auto ids = random_ids(3, 10'000);
    IdFilter filter(ids.size(), 1);
    for (const auto& id : ids) filter.insert(id);
    CHECK(found_in(filter, ids) == ids.size());
    CHECK(found_in(filter, random_ids(4, 1000)) > 950);
}

TEST_CASE("admit/id_filter: its bytes are read back, and nothing else is") {
    const auto ids = random_ids(5, 1000);
    IdFilter filter(ids.size(), 16);
    for (const auto& id : ids) filter.insert(id);
    const auto bytes = filter.encode();
    CHECK(bytes.size() == filter.bytes().count);
    const auto again = IdFilter::decode(bytes);
    REQUIRE(again);
    CHECK(again->encode() == bytes);
    CHECK(found_in(*again, ids) == ids.size());
    CHECK_FALSE(IdFilter::decode(""));
    CHECK_FALSE(IdFilter::decode(std::string_view(bytes).substr(1)));
    // The bytes outlive the process: word 0 of this one-block filter has bit 1, word 1 bit 0.
    IdFilter one(1, 16);
    one.insert({0, 1});
    CHECK(one.encode().substr(0, 16) == std::string("\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 16));
}

}  // namespace opsrelay::admit
