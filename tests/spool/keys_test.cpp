#include "spool/keys.h"

#include <doctest/doctest.h>

#include <limits>
#include <string_view>

namespace opsrelay::spool {
namespace {

template <typename Key>
std::string_view view(const Key& key) {
    return {key.data(), key.size()};
}

TEST_CASE("spool/keys: byte order is the order of the numbers") {
    const std::uint64_t numbers[] = {0,          1,          255,        256,
                                     65'535,     65'536,     0x7fffffff, 0x80000000,
                                     1ULL << 40, 1ULL << 63, ~0ULL - 1,  ~0ULL};
    for (std::size_t i = 0; i + 1 < std::size(numbers); ++i) {
        CAPTURE(numbers[i]);
        const auto low = seq_key(numbers[i]);
        const auto high = seq_key(numbers[i + 1]);
        CHECK(view(low) < view(high));
        CHECK(parse_seq_key(view(low)) == numbers[i]);
    }
    CHECK_FALSE(parse_seq_key("1234567").has_value());
    CHECK_FALSE(parse_seq_key("123456789").has_value());
}

TEST_CASE("spool/keys: dead letters are ordered by kind, lane and number") {
    const DeadKey keys[] = {{DeadKind::admission, LaneId{0}, 1},
                            {DeadKind::admission, LaneId{0}, 256},
                            {DeadKind::admission, LaneId{1}, 1},
                            {DeadKind::admission, LaneId{256}, 1},
                            {DeadKind::upstream, LaneId{0}, 1}};
    for (std::size_t i = 0; i + 1 < std::size(keys); ++i) {
        CAPTURE(i);
        const auto low = dead_key(keys[i]);
        CHECK(view(low) < view(dead_key(keys[i + 1])));
        const auto parsed = parse_dead_key(view(low));
        REQUIRE(parsed.has_value());
        CHECK(parsed->kind == keys[i].kind);
        CHECK(parsed->lane == keys[i].lane);
        CHECK(parsed->number == keys[i].number);
    }
    CHECK_FALSE(parse_dead_key("short").has_value());
    CHECK_FALSE(parse_dead_key("\x07tooodd4me!").has_value());
}

TEST_CASE("spool/keys: a segment family's name holds the lane") {
    CHECK(segment_family(LaneId{0}) == "seg_0");
    CHECK(parse_segment_family("seg_15") == LaneId{15});
    for (const auto* const name :
         {"seg_", "seg_x", "seg_1x", "seg_70000", "seg_06", "idlog", "default"}) {
        CAPTURE(name);
        CHECK_FALSE(parse_segment_family(name).has_value());
    }
}

TEST_CASE("spool/keys: a cursor keeps what is settled ahead of it, a bit a record") {
    const Cursor cases[] = {
        {1, 1, {1}}, {3, 7, {8, 15, 16}}, {3, 7, {4103}}, {1, 2, {2, 3, 4, 5, 6, 7, 8, 9, 10}}};
    for (const auto& cursor : cases) {
        CAPTURE(cursor.ahead.back());
        const auto value = encode_cursor(cursor);
        CHECK(value.size() == 16 + (cursor.ahead.back() - cursor.next) / 8 + 1);
        CHECK(decode_cursor(value) == cursor);
    }
    CHECK_FALSE(decode_cursor(encode_cursor({1, 1, {}}) + std::string(kAheadBytesMax + 1, '\1'))
                    .has_value());
}

TEST_CASE("spool/keys: a cursor that makes no sense is refused") {
    const Cursor cursor{3, 7, {}};
    CHECK(decode_cursor(encode_cursor(cursor)) == cursor);
    CHECK_FALSE(decode_cursor(encode_cursor({8, 7, {}})).has_value());
    CHECK_FALSE(decode_cursor(encode_cursor({0, 7, {}})).has_value());
    CHECK_FALSE(decode_cursor("short").has_value());
    CHECK(decode_u32(encode_u32(9)) == 9);
    CHECK_FALSE(decode_u32("12345").has_value());
}

}  // namespace
}  // namespace opsrelay::spool
