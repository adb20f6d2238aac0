#include "forward/reply_fields.h"

#include <doctest/doctest.h>

#include <string>

#include "core/random.h"

namespace opsrelay::forward {

TEST_CASE("forward/reply_fields: what counts in a body, and what is no object") {
    struct Case {
        const char* name;
        const char* body;
        bool object;
        ReplyFields fields;
    };
    const Case cases[] = {
        {"empty object", "{}", true, {}},
        {"space around", " \t{ \r\n} \n", true, {}},
        {"everything",
         R"({"ok":true,"planTier":"pro","warnings":[],"reason":null,"telemetryPaused":false,)"
         R"("isPlanLimitReached":true,"budgetWarning":false,"budgetExceeded":true})",
         true,
         {true, false, true, false, true, std::nullopt, "pro"}},
        {"a reason",
         R"({"ok":false,"reason":"rate_limited"})",
         true,
         {false, {}, {}, {}, {}, "rate_limited", {}}},
        {"escapes are undone",
         R"({"reason":"rate\u005flimited","planTier":"a\"b"})",
         true,
         {{}, {}, {}, {}, {}, "rate_limited", "a\"b"}},
        {"beyond ASCII", "{\"planTier\":\"\xc3\xa9\"}", true, {{}, {}, {}, {}, {}, {}, "\xc3\xa9"}},
        {"another type is no value", R"({"ok":1,"reason":true,"planTier":{}})", true, {}},
        {"the first of two counts",
         R"({"ok":false,"ok":true,"reason":1,"reason":"x"})",
         true,
         {false, {}, {}, {}, {}, {}, {}}},
        {"members of members do not count", R"({"a":{"ok":false},"b":[{"ok":false}]})", true, {}},
        {"numbers", R"({"a":0,"b":-1.5,"c":1e3,"d":12345678901234567890})", true, {}},
        {"deep", R"({"a":[[[[[[[[1]]]]]]]],"ok":true})", true, {true, {}, {}, {}, {}, {}, {}}},
        {"nothing", "", false, {}},
        {"an array", "[]", false, {}},
        {"a page", "<html></html>", false, {}},
        {"more behind it", "{} {}", false, {}},
        {"cut", R"({"ok":tru)", false, {}},
        {"trailing comma", R"({"ok":true,})", false, {}},
        {"no colon", R"({"ok" true})", false, {}},
        {"leading zero", R"({"a":01})", false, {}},
        {"no digit", R"({"a":-})", false, {}},
        {"open point", R"({"a":1.})", false, {}},
        {"not UTF-8", "{\"a\":\"\xff\"}", false, {}},
        {"a control character", "{\"a\":\"\x01\"}", false, {}},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto fields = read_fields(test.body);
        CHECK(fields.has_value() == test.object);
        if (fields) CHECK((*fields == test.fields));
        CHECK((fields == parse_fields(test.body)));
    }
}

TEST_CASE("forward/reply_fields: the usual reply takes the short way, deep and long ones do not") {
    CHECK(scan_fields(R"({"ok":true,"externalRequestId":"a-1","warnings":["x"],"n":{"m":-0.25}})"));
    CHECK_FALSE(scan_fields(R"({"a":"\n"})"));
    CHECK_FALSE(scan_fields(R"({"a":[[[[1]]]]})"));
    CHECK_FALSE(scan_fields(R"({"a":1234567890123456})"));
    CHECK_FALSE(scan_fields(std::string(64U << 10U, '[')));
    CHECK_FALSE(read_fields(std::string(64U << 10U, '[')));
}

TEST_CASE("forward/reply_fields: whatever the scan accepts, the parser reads the same") {
    const std::string pieces[] = {"{",          "}",       "[",        "]",
                                  ",",          ":",       "\"ok\"",   "true",
                                  "false",      "null",    "0",        "-1.5",
                                  "\"reason\"", "\"x\"",   " ",        "\"planTier\"",
                                  "01",         "\"\\n\"", "\"\x7f\"", "1e2",
                                  "\xff",       "-",       "tru",      "\"budgetWarning\""};
    Xoshiro rng{20260314};
    int accepted = 0;
    for (int i = 0; i < 200'000; ++i) {
        // Half of them begin as an object with a member does, or hardly any would be one.
        std::string body = rng.chance(500) ? "{\"ok\":" : "{";
        const auto length = rng.between(std::uint64_t{0}, 8);
        for (std::uint64_t k = 0; k < length; ++k) {
            body += pieces[rng.between(std::uint64_t{0}, std::size(pieces) - 1)];
        }
        if (rng.chance(800)) body += '}';
        const auto scanned = scan_fields(body);
        if (!scanned) continue;
        ++accepted;
        CAPTURE(body);
        REQUIRE((scanned == parse_fields(body)));
    }
    CHECK(accepted > 1000);
}

}  // namespace opsrelay::forward
