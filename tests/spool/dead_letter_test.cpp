#include "spool/dead_letter.h"

#include <doctest/doctest.h>

#include "samples.h"

namespace opsrelay::spool {
namespace {

TEST_CASE("spool/dead_letter: a dead letter comes back as it went in") {
    const auto letter = test::make_dead(7, "{\"a\":1}");
    const auto back = decode_dead_letter(encode_dead_letter(letter));
    REQUIRE(back.has_value());
    CHECK(back->kind == letter.kind);
    CHECK(back->seq == letter.seq);
    CHECK(back->unix_ms == letter.unix_ms);
    CHECK(back->reason == letter.reason);
    CHECK(back->detail == letter.detail);
    CHECK(back->source == letter.source);
    CHECK(back->id == letter.id);
    CHECK(back->provider == letter.provider);
    CHECK(back->model == letter.model);
    CHECK(back->bytes == letter.bytes);
    CHECK(back->hash == letter.hash);
    CHECK(back->payload == letter.payload);
}

TEST_CASE("spool/dead_letter: truncated, extended and unknown values are refused") {
    const auto value = encode_dead_letter(test::make_dead(7, "event"));
    for (std::size_t length = 0; length < value.size(); ++length) {
        CAPTURE(length);
        CHECK(decode_dead_letter(std::string_view(value).substr(0, length)).has_error());
    }
    CHECK(decode_dead_letter(value + "x").has_error());
    auto newer = value;
    newer[0] = 2;
    CHECK(decode_dead_letter(newer).error().code == Errc::spool_corrupt);
}

TEST_CASE("spool/dead_letter: texts are cut, the event is not") {
    auto letter = test::make_dead(7, std::string(60'000, 'x'));
    letter.detail.assign(10'000, 'y');
    const auto back = decode_dead_letter(encode_dead_letter(letter));
    REQUIRE(back.has_value());
    CHECK(back->detail.size() == kDeadTextBytesMax);
    CHECK(back->payload.size() == 60'000);
}

TEST_CASE("spool/dead_letter: the oldest go when there are too many, or too many bytes") {
    using Entry = AdmissionLetters::Entry;
    AdmissionLetters letters({.admission_letters = 3, .admission_bytes = Bytes{100}});
    const std::vector<Entry> three{
        {1, 10, kDefaultLane}, {2, 10, kDefaultLane}, {3, 10, kDefaultLane}};
    CHECK(letters.evictions(three) == 0);
    letters.replace(three, 0);
    CHECK(letters.next_number() == 4);

    const std::vector<Entry> large{{4, 85, kDefaultLane}};
    CHECK(letters.evictions(large) == 2);
    letters.replace(large, 2);
    CHECK(letters.size() == 2);
    CHECK(letters.bytes() == Bytes{95});

    const std::vector<Entry> too_large{{5, 101, kDefaultLane}};
    CHECK(letters.evictions(too_large) == 3);  // itself included
    letters.replace(too_large, 3);
    CHECK(letters.size() == 0);
    CHECK(letters.bytes() == Bytes{0});
    CHECK(letters.next_number() == 6);
}

}  // namespace
}  // namespace opsrelay::spool
