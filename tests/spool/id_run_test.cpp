#include "spool/id_run.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "core/random.h"
#include "spool/strike_out.h"

namespace opsrelay::spool {
namespace {

std::string_view view(const RunKey& key) { return {key.data(), key.size()}; }

TEST_CASE("spool/id_run: keys sort by generation, run and page") {
    const RunKey keys[] = {
        run_key({1, 2}, 0),           run_key({1, 2}, 256), run_key({1, 2}, kDescriptorPage),
        run_key({1, 2}, kFilterPage), run_key({1, 3}, 0),   run_key({2, 1}, 0),
        run_key({256, 0}, 0)};
    CHECK(std::is_sorted(std::begin(keys), std::end(keys),
                         [](const auto& a, const auto& b) { return view(a) < view(b); }));
    CHECK(parse_run_key(view(keys[2])) == RunName{1, 2});
    CHECK(parse_run_page(view(keys[2])) == kDescriptorPage);
    CHECK_FALSE(parse_run_key("short"));
    CHECK_FALSE(parse_run_page("short"));
}

TEST_CASE("spool/id_run: an id's page rises with the id and stays in range") {
    for (const std::uint64_t ids : {1U, 224U, 225U, 65'536U, 10'000'000U}) {
        CAPTURE(ids);
        const auto pages = pages_for(ids);
        CHECK(pages >= 1);
        CHECK((pages - 1) * kIdsPerPage < ids);
        CHECK(page_of({0, 0}, pages) == 0);
        CHECK(page_of({~0ULL, ~0ULL}, pages) == pages - 1);
        CHECK(page_of({1ULL << 62U, 0}, pages) <= page_of({1ULL << 63U, 0}, pages));
    }
}

TEST_CASE("spool/id_run: a page finds what it holds, by all 128 bits") {
    Xoshiro rng{11};
    for (const std::size_t count : {0U, 1U, 2U, 3U, 240U}) {
        CAPTURE(count);
        std::vector<IdHash> ids(count);
        for (auto& id : ids) id = {rng.next(), rng.next()};
        std::sort(ids.begin(), ids.end());
        std::string page;
        for (const auto& id : ids) append_id(page, id);
        CHECK(ids_in_page(page) == count);
        for (const auto& id : ids) {
            CHECK(page_contains(page, id));
            CHECK_FALSE(page_contains(page, {id.hi, id.lo ^ 1U}));
            CHECK_FALSE(page_contains(page, {id.hi ^ 1U, id.lo}));
        }
        CHECK_FALSE(page_contains(page, {0, 0}));
        CHECK_FALSE(page_contains(page, {~0ULL, ~0ULL}));
    }
    CHECK(ids_in_page("no whole id here") == 1);
    CHECK(ids_in_page("cut") == 0);
    CHECK_FALSE(page_contains("cut", {0, 0}));
}

TEST_CASE("spool/id_run: a descriptor is read back; what is none is told") {
    const RunInfo info{{3, 4}, 1000, 50, 60, 5, 77, {{3, 1}, {2, 9}}};
    const auto value = encode_descriptor(info);
    CHECK(decode_descriptor({3, 4}, value) == info);
    const auto changed = [&value](std::size_t at, char byte) {
        auto bytes = value;
        bytes[at] = byte;
        return decode_descriptor({3, 4}, bytes);
    };
    CHECK_FALSE(decode_descriptor({3, 4}, ""));
    CHECK_FALSE(decode_descriptor({3, 4}, value + "x"));
    CHECK_FALSE(changed(0, 2));       // a newer version
    CHECK_FALSE(changed(9, '\x80'));  // before 1970
    CHECK_FALSE(changed(10, 1));      // its newest id is older than its oldest
    CHECK_FALSE(changed(28, 0));      // no pages
    CHECK_FALSE(decode_descriptor({3, 4}, encode_descriptor({{3, 4}, 0, 50, 60, 5, 1, {}})));
}

TEST_CASE("spool/strike_out: the struck events go with their ids, the others stay in order") {
    struct Case {
        const char* name;
        std::vector<std::uint32_t> struck;
        const char* payload;
        std::vector<std::uint64_t> ids;
    };
    const Case cases[] = {
        {"none", {}, "a\nbb\nccc\nd\n", {1, 2, 3, 4}},
        {"first", {0}, "bb\nccc\nd\n", {2, 3, 4}},
        {"middle", {1, 2}, "a\nd\n", {1, 4}},
        {"last", {3}, "a\nbb\nccc\n", {1, 2, 3}},
        {"all", {0, 1, 2, 3}, "", {}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        Segment segment;
        segment.payload = "a\nbb\nccc\nd\n";
        segment.count = 4;
        segment.ids = {{1, 0}, {2, 0}, {3, 0}, {4, 0}};
        segment.maybe = {{0, 1, false}};
        strike_out(segment, test.struck);
        CHECK(segment.payload == test.payload);
        REQUIRE(segment.ids.size() == test.ids.size());
        for (std::size_t i = 0; i < test.ids.size(); ++i) CHECK(segment.ids[i].hi == test.ids[i]);
        CHECK(segment.count == test.ids.size());
        CHECK(segment.maybe.empty());
    }
}

}  // namespace
}  // namespace opsrelay::spool
