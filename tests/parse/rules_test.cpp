#include "parse/rules.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "parse/find_field.h"
#include "parse/parser_fixture.h"
#include "parse/patch.h"
#include "parse/receipt.h"

namespace opsrelay::parse {

TEST_CASE("parse/rules: a field is found by its exact name only") {
    for (const auto& row : kFields) {
        const std::string name(row.name);
        CAPTURE(name);
        CHECK(find_field(name) == row.value);
        CHECK_FALSE(find_field(name + "x"));
        CHECK_FALSE(find_field(name.substr(1)));
        auto changed = name;
        changed.back() = '_';
        CHECK_FALSE(find_field(changed));
    }
    CHECK_FALSE(find_field(""));
    CHECK_FALSE(find_field("externalrequestid"));
    CHECK_FALSE(find_field(std::string(1000, 'x')));
}

TEST_CASE("parse/rules: a decimal is read exactly") {
    struct Case {
        std::string text;
        std::uint64_t whole;
        std::string flags;  // n negative, p plain, f fraction, r rounds up, o overflow
    };
    const Case cases[] = {
        {"0", 0, "p"},
        {"10", 10, "p"},
        {"18446744073709551615", 0, "po"},  // 20 digits: more than is ever needed
        {"9999999999999999999", 9'999'999'999'999'999'999ULL, "p"},
        {"-12", 12, "n"},
        {"-0.0", 0, ""},
        {"0.50", 0, "fr"},
        {"0.49", 0, "f"},
        {"0.05", 0, "f"},
        {"5e-1", 0, "fr"},
        {"5e-2", 0, "f"},
        {"95e-1", 9, "fr"},
        {"00012e0", 12, ""},
        {"1.20e1", 12, ""},
        {"1.25e1", 12, "fr"},
        {"1200e-2", 12, ""},
        {"0.000012e6", 12, ""},
        {"1e19", 0, "o"},
        {"1e18", 1'000'000'000'000'000'000ULL, ""},
        {"-1e99999999999999999999", 0, "no"},
        {"1e-99999999999999999999", 0, "f"},
        {"0e99999999999999999999", 0, ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.text);
        const auto number = parse_decimal(test.text);
        std::string flags;
        if (number.negative) flags += 'n';
        if (number.plain) flags += 'p';
        if (number.fraction) flags += 'f';
        if (number.round_up) flags += 'r';
        if (number.overflow) flags += 'o';
        CHECK(flags == test.flags);
        CHECK(number.whole == test.whole);
    }
}

TEST_CASE("parse/rules: the length of a number follows the JSON grammar") {
    struct Case {
        std::string text;
        std::size_t length;
    };
    const Case cases[] = {{"0", 1},  {"0,", 1},    {"-12.5e+3}", 8}, {"01", 0},  {"-", 0},
                          {"1.", 0}, {"1.5.5", 3}, {"1e", 0},        {"1e+", 0}, {"1E5", 3},
                          {"+1", 0}, {".5", 0},    {"", 0},          {"-0", 2},  {"1-", 1}};
    for (const auto& test : cases) {
        CAPTURE(test.text);
        CHECK(number_length(test.text) == test.length);
    }
}

TEST_CASE("parse/rules: ISO 8601 dates and times that exist are known") {
    for (const std::string good :
         {"2026-03-14", "2024-02-29", "2000-02-29", "2026-03-14T09:26", "2026-03-14T09:26:53",
          "2026-03-14T09:26:53Z", "2026-03-14T09:26:53.1Z", "2026-03-14T09:26:53.123456789Z",
          "2026-03-14T09:26:53.123456", "2026-03-14T09:26:53+00:00", "2026-03-14T09:26-23:59",
          "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"}) {
        CAPTURE(good);
        CHECK(is_iso8601(good));
    }
    for (const std::string bad : {"",
                                  "now",
                                  "2026",
                                  "2026-03",
                                  "2026-3-14",
                                  "20260314",
                                  "2026-02-29",
                                  "1900-02-29",
                                  "2026-00-10",
                                  "2026-13-10",
                                  "2026-04-31",
                                  "2026-04-00",
                                  "0000-01-01",
                                  "2026-03-14T",
                                  "2026-03-14T09",
                                  "2026-03-14T24:00",
                                  "2026-03-14T09:60",
                                  "2026-03-14T09:26:60",
                                  "2026-03-14T09:26:53.",
                                  "2026-03-14T09:26:53.1234567890",
                                  "2026-03-14T09:26:53,5",
                                  "2026-03-14T09:26:53z",
                                  "2026-03-14T09:26:53 Z",
                                  "2026-03-14T09:26:53+0530",
                                  "2026-03-14T09:26:53+24:00",
                                  "2026-03-14T09:26:53ZZ",
                                  "2026-03-14Z",
                                  "2026-03-14 09:26:53",
                                  " 2026-03-14",
                                  "1777777777"}) {
        CAPTURE(bad);
        CHECK_FALSE(is_iso8601(bad));
    }
}

TEST_CASE("parse/rules: white space is what Unicode says") {
    CHECK(trim(" \t\n\v\f\ra b \u00a0\u2003\u3000") == "a b");
    CHECK(trim("\u0085\u1680\u2000\u200a\u2028\u2029\u202f\u205f").empty());
    CHECK(trim("").empty());
    CHECK(trim("\u200bx\u00e0") == "\u200bx\u00e0");  // a zero-width space is no white space
    CHECK(spelled(" Error\n", kStatusNames) == "error");
    CHECK_FALSE(spelled("err", kStatusNames));
    CHECK_FALSE(spelled("", kStatusNames));
    CHECK(printable("a \u00a0\u00e9\U0001F600"));
    CHECK_FALSE(printable(std::string(1, '\0')));
}

TEST_CASE("parse/receipt: minted ids have their form") {
    const auto at = [](std::int64_t ms) { return WallTime{milliseconds{ms}}; };
    Xoshiro rng{1};
    for (int i = 0; i < 100; ++i) {
        const MintedId id(at(0x0123456789AB), rng);
        const std::string text(id.text());
        CAPTURE(text);
        CHECK(text.starts_with("01234567-89ab-7"));
        CHECK(text.size() == 36);
        CHECK(text[18] == '-');
        CHECK(std::string("89ab").find(text[19]) != std::string::npos);
        CHECK(text[23] == '-');
        CHECK(text.find_first_not_of("0123456789abcdef-") == std::string::npos);
    }
}

TEST_CASE("parse/patch: edits are applied in text order, insertions in the order they were made") {
    Patch patch;
    patch.replace(6, 6, {",", "c"});
    patch.replace(4, 5, {"B"});
    patch.replace(6, 6, {",d"}, EditKind::receipt);
    patch.replace(0, 2, {});
    std::string out;
    patch.apply("a,[=b=]", EditKind::receipt, out);
    CHECK(out == "[=B=,c,d]");
    patch.apply("a,[=b=]", EditKind::repair, out);
    CHECK(out == "[=B=,c]");
    patch.apply("a,[=b=]", EditKind::privacy, out);
    CHECK(out == "a,[=b=]");
    CHECK(patch.has(EditKind::receipt));
    CHECK_FALSE(patch.has(EditKind::privacy));
    patch.clear();
    CHECK_FALSE(patch.has(EditKind::repair));
    patch.apply("same", EditKind::receipt, out);
    CHECK(out == "same");

    out.clear();
    append_json_string(out, std::string_view("a\"\\\b\t\n\f\r\x01\x1f\0\u00e9/", 14));
    CHECK(out == "\"a\\\"\\\\\\b\\t\\n\\f\\r\\u0001\\u001f\\u0000\u00e9/\"");
}

TEST_CASE("parse/patch: members leave with one comma, whichever of their neighbours leave too") {
    const std::string text = R"({ "a":1 , "b":2,"c":{"d":3,"e":4} ,"f":5 })";
    const auto begin_of = [&](char key) { return text.find(std::string{'"', key, '"'}); };
    const auto member = [&](char key) {
        const auto begin = begin_of(key);
        return text.substr(begin, key == 'c' ? 17 : 5);
    };
    const std::string keys = "abcdef";
    for (unsigned set = 0; set < 1U << keys.size(); ++set) {
        Patch patch;
        std::string gone;
        for (std::size_t i = keys.size(); i-- > 0;) {  // the order of the edits does not matter
            if ((set >> i & 1U) == 0) continue;
            gone += keys[i];
            patch.remove(begin_of(keys[i]), begin_of(keys[i]) + member(keys[i]).size());
        }
        CAPTURE(gone);
        std::string out;
        patch.apply(text, EditKind::repair, out);
        out.erase(std::remove(out.begin(), out.end(), ' '), out.end());
        const auto is_gone = [&](char key) { return gone.find(key) != std::string::npos; };
        const auto listed = [&](const std::string& members) {
            std::string joined;
            for (const auto key : members) {
                if (is_gone(key) || key == 'c') continue;
                joined += (joined.empty() ? "" : ",") + member(key);
            }
            return joined;
        };
        std::string inner = is_gone('c') ? "" : "\"c\":{" + listed("de") + "}";
        std::string expected;
        for (const auto& part : {listed("ab"), inner, listed("f")}) {
            if (!part.empty()) expected += (expected.empty() ? "" : ",") + part;
        }
        CHECK(out == "{" + expected + "}");
    }
}

}  // namespace opsrelay::parse
