#include "operate/dead_json.h"

#include <doctest/doctest.h>

namespace opsrelay::operate {

namespace {

spool::DeadLetter letter() {
    spool::DeadLetter one;
    one.kind = spool::DeadKind::upstream;
    one.lane = LaneId{3};
    one.seq = 12;
    one.unix_ms = 1'767'225'600'123;
    one.reason = "upstream_400";
    one.detail = "say \"why\"";
    one.source = "upstream";
    one.id = "id-1";
    one.provider = "openai";
    one.model = "gpt-4o";
    one.bytes = 22;
    one.hash = 0xabc;
    one.payload = R"({"a":1.10,"b":"\u00e9"})";
    return one;
}

}  // namespace

TEST_CASE("operate/dead_json: keys are written and read back; nothing else is a key") {
    using spool::DeadKey;
    using spool::DeadKind;
    const DeadKey keys[] = {{DeadKind::admission, kDefaultLane, 1},
                            {DeadKind::upstream, LaneId{65'535}, ~std::uint64_t{0}}};
    CHECK(to_text(keys[0]) == "admission-0-1");
    CHECK(to_text(keys[1]) == "upstream-65535-18446744073709551615");
    for (const auto& key : keys) CHECK(parse_key(to_text(key)) == key);
    for (const auto* const text :
         {"", "-", "--", "upstream", "upstream-0", "upstream-0-", "upstream--1", "Upstream-0-1",
          "upstream-0-1 ", "upstream-65536-1", "upstream-0-18446744073709551616", "upstream-0--1",
          "dead-0-1", "upstream-0-1-2"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_key(text).has_value());
    }
}

TEST_CASE("operate/dead_json: a letter, with its event to the byte") {
    CHECK(to_json(letter(), "europe", true) ==
          R"({"key":"upstream-3-12","kind":"upstream","lane":"europe",)"
          R"("time":"2026-01-01T00:00:00.123Z","reason":"upstream_400","detail":"say \"why\"",)"
          R"("source":"upstream","id":"id-1","provider":"openai","model":"gpt-4o","bytes":22,)"
          R"("hash":"0000000000000abc","replayable":true,"event":{"a":1.10,"b":"\u00e9"}})");
    CHECK(to_json(letter(), "europe", false).ends_with(R"("replayable":true,"event":null})"));
    auto empty = letter();
    empty.payload.clear();
    CHECK(to_json(empty, "europe", true).ends_with(R"("replayable":false,"event":null})"));
}

TEST_CASE("operate/dead_json: what upstream said may be no UTF-8, and still gives good JSON") {
    auto one = letter();
    one.detail = "a\xff\xfe\xc3z\x01";
    CHECK(to_json(one, "x", false)
              .find("\"detail\":\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\\u0001\"") !=
          std::string::npos);
    one.payload = "no json";
    CHECK(to_json(one, "x", true).ends_with(R"("event":"no json"})"));
}

}  // namespace opsrelay::operate
