#include "spool/segment.h"

#include <doctest/doctest.h>

#include "samples.h"
#include "spool/byte_order.h"
#include "spool/options.h"

namespace opsrelay::spool {
namespace {

using test::make_segment;
using test::names;
using test::records_of;

std::string encoded(const Segment& segment, Seq first_seq) {
    std::string scratch(7, '#');  // what is left of others does no harm
    return std::string(encode_segment(segment, first_seq, scratch));
}

TEST_CASE("spool/segment: a segment comes back as it went in") {
    struct Case {
        const char* name;
        std::uint32_t count;
        std::size_t bytes;
    };
    const Case cases[] = {{"one short record", 1, 0},
                          {"many that compress", 8192, 0},
                          {"noise that does not compress", 4, 300},
                          {"the largest", 8, 65'535}};
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto segment = make_segment("r", test.count, kDefaultLane, test.bytes);
        const auto value = encoded(segment, 77);
        CHECK(value.size() <= kSegmentHeaderBytes + segment.payload.size());
        const auto stored = decode_segment(value, 77);
        REQUIRE(stored.has_value());
        CHECK(stored->first_seq == 77);
        CHECK(stored->end_seq() == 77 + test.count);
        CHECK(stored->received_unix_ms == segment.received_unix_ms);
        CHECK(stored->payload == segment.payload);
    }
}

TEST_CASE("spool/segment: the bytes are those of the grammar") {
    auto segment = make_segment("a", 1);
    segment.payload = "{}\n";
    segment.received_unix_ms = 0x0102;
    const auto value = encoded(segment, 5);
    REQUIRE(value.size() == kSegmentHeaderBytes + 3);
    CHECK(value.substr(0, 4) == "OPRS");
    CHECK(value[4] == 1);
    CHECK(value[5] == 0);
    CHECK(load_le<std::uint64_t>(value.data() + 8) == 5);
    CHECK(load_le<std::uint32_t>(value.data() + 16) == 1);
    CHECK(load_le<std::uint32_t>(value.data() + 20) == 3);
    CHECK(load_le<std::uint64_t>(value.data() + 24) == 0x0102);
    CHECK(value.substr(40) == "{}\n");
}

TEST_CASE("spool/segment: a flipped bit anywhere is found") {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{60}}) {
        const auto segment = make_segment("record", 5, kDefaultLane, bytes);
        const auto value = encoded(segment, 9);
        for (std::size_t at = 0; at < value.size(); ++at) {
            for (const int bit : {0, 3, 7}) {
                CAPTURE(at);
                CAPTURE(bit);
                auto bad = value;
                bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
                const auto stored = decode_segment(bad, 9);
                if (stored.has_error()) {
                    CHECK(stored.error().code == Errc::spool_corrupt);
                } else {  // LZ4 may refer to another place with the same bytes
                    CHECK(at >= kSegmentHeaderBytes);
                    CHECK(stored->payload == segment.payload);
                }
            }
        }
    }
}

TEST_CASE("spool/segment: a truncated value is found at every length") {
    const auto value = encoded(make_segment("record", 5), 9);
    for (std::size_t length = 0; length < value.size(); ++length) {
        CAPTURE(length);
        CHECK(decode_segment(std::string_view(value).substr(0, length), 9).has_error());
    }
    CHECK(decode_segment(value + "x", 9).has_error());
}

TEST_CASE("spool/segment: another segment's value under this key is damage") {
    const auto value = encoded(make_segment("a", 1), 9);
    CHECK(decode_segment(value, 10).has_error());
}

TEST_CASE("spool/segment: a length beyond the limit is refused before anything is allocated") {
    auto value = encoded(make_segment("a", 100), 9);
    REQUIRE(value[5] == static_cast<char>(Codec::lz4));
    for (const std::uint32_t length : {0U, 524'289U, 0x7fffffffU, 0xffffffffU}) {
        CAPTURE(length);
        store_le(value.data() + 20, length);
        const auto stored = decode_segment(value, 9);
        REQUIRE(stored.has_error());
        CHECK(stored.error().context.find("raw length") != std::string::npos);
    }
    store_le(value.data() + 20, std::uint32_t{10'000});
    store_le(value.data() + 16, std::uint32_t{8193});
    CHECK(decode_segment(value, 9).error().context.find("count") != std::string::npos);
}

TEST_CASE("spool/segment: a batch starts at the record that is asked for") {
    const auto value = encoded(make_segment("r", 4), 10);
    for (Seq from = 10; from < 14; ++from) {
        CAPTURE(from);
        const auto batch = to_batch(decode_segment(value, 10).value(), kDefaultLane, from);
        CHECK(batch.first_seq == from);
        CHECK(records_of(batch) == names("r", static_cast<std::uint32_t>(from - 10), 4));
    }
}

}  // namespace
}  // namespace opsrelay::spool
