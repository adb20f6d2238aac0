#include "parse/json_reader.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "parse/parser_fixture.h"
#include "parse/utf8.h"

namespace opsrelay::parse {

namespace {

struct TextCase {
    std::string name;
    std::string bytes;
    std::string expected;  // "=": kept byte for byte
};

void check_cases(const std::vector<TextCase>& cases, Options options = {}) {
    ParserFixture fixture(options);
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(fixture.outcome(test.bytes) == (test.expected == "=" ? test.bytes : test.expected));
    }
}

std::string nested(std::size_t depth, char open, char close) {
    return std::string(depth, open) + std::string(depth, close);
}

std::string nested_objects(std::size_t depth) {
    std::string text;
    for (std::size_t i = 0; i < depth; ++i) text += R"({"a":)";
    return text + "0" + std::string(depth, '}');
}

}  // namespace

TEST_CASE("parse/json_reader: only strict JSON is taken, and all of it") {
    check_cases({
        {"nothing", "", "not_json"},
        {"white space", " \t", "not_json"},
        {"half an object", R"({"provider":"p")", "not_json"},
        {"half a string", R"({"provider":"p)", "not_json"},
        {"trailing comma", R"({"provider":"p","model":"m",})", "not_json"},
        {"single quotes", "{'provider':'p'}", "not_json"},
        {"comment", R"({"provider":"p"/**/})", "not_json"},
        {"bare word", R"({"provider":p})", "not_json"},
        {"NaN", event_with(R"(,"x":NaN)"), "not_json"},
        {"plus sign", event_with(R"(,"x":+1)"), "not_json"},
        {"leading zero", event_with(R"(,"x":01)"), "not_json"},
        {"no digits after the point", event_with(R"(,"x":1.)"), "not_json"},
        {"a huge number and a wrong one", event_with(R"(,"x":1e400,"y":1e)"), "not_json"},
        {"a huge number and half a string", event_with(R"(,"x":1e400,"y":")"), "not_json"},
        {"text behind", event_with("") + "x", "not_json"},
        {"a second event behind", event_with("") + event_with(""), "not_json"},
        {"byte order mark", "\xEF\xBB\xBF" + event_with(""), "not_json"},
        {"unknown escape", event_with(R"(,"x":"\q")"), "not_json"},
        {"short unicode escape", event_with(R"(,"x":"\u12")"), "not_json"},
        {"raw newline in a string", event_with(",\"x\":\"a\nb\""), "not_json"},
        {"raw tab in a string", event_with(",\"x\":\"a\tb\""), "not_json"},
        {"raw NUL in a string", event_with(std::string(",\"x\":\"a\0b\"", 10)), "not_json"},
        {"raw NUL between tokens", event_with(std::string(",\0\"x\":1", 7)), "not_json"},
        {"NUL behind", event_with("") + std::string(1, '\0'), "not_json"},
        {"NUL and text behind", event_with("") + std::string("\0{}", 3), "not_json"},
        {"null", "null", "not_an_object"},
        {"number", "1", "not_an_object"},
        {"huge number", "1e999", "not_an_object"},
        {"string", R"("event")", "not_an_object"},
        {"array of events", "[" + event_with("") + "]", "not_an_object"},
        {"compressed bytes", "\x1f\x8b\x08\xff", "not_json"},
    });
}

TEST_CASE("parse/json_reader: newlines between tokens become spaces, other white space stays") {
    check_cases({
        {"newlines",
         "{\r\n\"externalRequestId\":\n\"i\",\"provider\":\"p\",\"model\":\"m\",\t"
         "\"inputTokens\":1,\"outputTokens\":2,\"totalTokens\":3,\"status\":\"error\","
         "\"createdAt\":\"2026-05-01\"\n}\n",
         "{  \"externalRequestId\": \"i\",\"provider\":\"p\",\"model\":\"m\",\t"
         "\"inputTokens\":1,\"outputTokens\":2,\"totalTokens\":3,\"status\":\"error\","
         "\"createdAt\":\"2026-05-01\" } "},
        {"carriage return behind", event_with("") + "\r", event_with("") + " "},
        {"escaped newline stays", event_with(R"(,"x":"a\nb")"), "="},
        {"repairs and newlines", event_with(",\n\"latencyMs\":\n1.0\n"),
         event_with(", \"latencyMs\": 1 ")},
    });
}

TEST_CASE("parse/json_reader: nesting 16 deep is taken, 17 is not") {
    for (const auto depth : {14U, 15U}) {
        CAPTURE(depth);  // below the event itself, which is 1
        check_cases({{"arrays", event_with(R"(,"x":)" + nested(depth, '[', ']')), "="},
                     {"objects", event_with(R"(,"x":)" + nested_objects(depth)), "="}});
    }
    for (const auto depth : {16U, 17U, 20'000U}) {
        CAPTURE(depth);
        check_cases({{"arrays", event_with(R"(,"x":)" + nested(depth, '[', ']')), "too_deep"},
                     {"never closed", R"({"x":)" + std::string(depth, '['), "too_deep"},
                     {"no object at all", nested(depth + 1, '[', ']'), "too_deep"}});
    }
    check_cases({{"a lower limit", event_with(R"(,"x":[[]])"), "too_deep"},
                 {"just within", event_with(R"(,"x":[])"), "="}},
                Options{.depth_max = 2});
}

TEST_CASE("parse/json_reader: an event of the largest size is taken, one byte more is not") {
    const auto empty = event_with(R"(,"x":"")").size();
    const auto fitting = event_with(R"(,"x":")" + std::string((64U << 10U) - empty, 'x') + '"');
    REQUIRE(fitting.size() == 64U << 10U);
    check_cases({{"at the limit", fitting, "="},
                 {"one more", fitting + " ", "too_large"},
                 {"far more, not JSON", std::string(1U << 20U, 'x'), "too_large"}});
}

TEST_CASE("parse/json_reader: invalid UTF-8 is refused wherever it stands") {
    const auto in_text = [](const std::string& bytes) {
        return event_with(",\"x\":\"" + bytes + '"');
    };
    check_cases({
        {"two bytes", in_text("\xC3\xA9"), "="},
        {"three bytes", in_text("\xE2\x82\xAC"), "="},
        {"four bytes", in_text("\xF0\x9F\x98\x80"), "="},
        {"last code point", in_text("\xF4\x8F\xBF\xBF"), "="},
        {"before the surrogates", in_text("\xED\x9F\xBF"), "="},
        {"lone continuation", in_text("\x80"), "bad_utf8"},
        {"overlong slash", in_text("\xC0\xAF"), "bad_utf8"},
        {"overlong NUL", in_text("\xC0\x80"), "bad_utf8"},
        {"overlong in three", in_text("\xE0\x9F\xBF"), "bad_utf8"},
        {"overlong in four", in_text("\xF0\x8F\xBF\xBF"), "bad_utf8"},
        {"high surrogate", in_text("\xED\xA0\x80"), "bad_utf8"},
        {"low surrogate", in_text("\xED\xBF\xBF"), "bad_utf8"},
        {"above the last", in_text("\xF4\x90\x80\x80"), "bad_utf8"},
        {"five bytes", in_text("\xF8\x88\x80\x80\x80"), "bad_utf8"},
        {"FE and FF", in_text("\xFE\xFF"), "bad_utf8"},
        {"cut short by the quote", in_text("\xE2\x82"), "bad_utf8"},
        {"cut short by the end",
         R"({"x":")"
         "\xF0\x9F",
         "bad_utf8"},
        {"in a key", event_with(",\"\xFF\":1"), "bad_utf8"},
        {"in the id",
         R"({"externalRequestId":")"
         "\xFF\"}",
         "bad_utf8"},
        {"nested", event_with(",\"x\":[{\"y\":\"\xFF\"}]"), "bad_utf8"},
        {"between tokens", event_with(",\xFF\"x\":1"), "bad_utf8"},
        {"behind", event_with("") + "\xFF", "bad_utf8"},
        {"surrogate pair escape", in_text(R"(\ud83d\ude00\uD83D\uDE00)"), "="},
        {"lone high escape", in_text(R"(\ud83d)"), "bad_utf8"},
        {"high escape and text", in_text(R"(\ud83dx)"), "bad_utf8"},
        {"two high escapes", in_text(R"(\ud83d\ud83d)"), "bad_utf8"},
        {"lone low escape", in_text(R"(\ude00)"), "bad_utf8"},
        {"low escape behind a pair", in_text(R"(\ud83d\ude00\ude00)"), "bad_utf8"},
        {"escaped backslash, then text", in_text(R"(\\ude00)"), "="},
        {"lone low escape in a key", event_with(R"(,"\udfff":1)"), "bad_utf8"},
    });
    for (std::size_t at = 0; at < 40; ++at) {  // across the words of eight bytes
        CAPTURE(at);
        auto text = std::string(40, 'x');
        CHECK(first_invalid_utf8(text) == std::string::npos);
        text[at] = '\xBF';
        CHECK(first_invalid_utf8(text) == at);
    }
}

TEST_CASE("parse/json_reader: a top-level key stands once, compared after unescaping") {
    std::string many;
    for (int i = 0; i < 5000; ++i) many += ",\"k" + std::to_string(i) + "\":0";
    check_cases({
        {"known", event_with(R"(,"model":"m")"), "duplicate_key model"},
        {"known, escaped", event_with(R"(,"mod\u0065l":"m")"), "duplicate_key model"},
        {"known, first null", bare_with(R"(,"userId":null,"userId":null)"), "duplicate_key userId"},
        {"known, with objects", bare_with(R"(,"metadata":{},"metadata":{"a":1})"),
         "duplicate_key metadata"},
        {"before other complaints", bare_with(R"(,"status":1,"status":2)"), "duplicate_key status"},
        {"unknown", event_with(R"(,"x":1,"y":2,"x":1)"), "duplicate_key"},
        {"unknown, escaped", event_with(R"(,"x/":1,"\u0078\/":2)"), "duplicate_key"},
        {"empty key", event_with(R"(,"":1,"":2)"), "duplicate_key"},
        {"another case is another key", event_with(R"(,"Model":"m","MODEL":1)"), "="},
        {"nested", event_with(R"(,"x":{"model":1,"model":2,"x":3})"), "="},
        {"in an array", event_with(R"(,"x":[{"a":1,"a":2}])"), "="},
        {"many", event_with(many), "="},
        {"one of many", event_with(many + R"(,"k17":0)"), "duplicate_key"},
    });
}

TEST_CASE("parse/json_reader: numbers that no double holds pass through in unknown fields") {
    const std::string digits(400, '7');
    check_cases({
        {"exponent", event_with(R"(,"x":1e400)"), "="},
        {"negative", event_with(R"(,"x":[-1.5E+999,"1e999 \" 1e999",1e-999])"), "="},
        {"digits", event_with(R"(,"x":)" + digits + ",\"y\":" + digits + "." + digits), "="},
        {"exponent without end", event_with(R"(,"x":1e)" + digits), "="},
        {"next to a known one", event_with(R"(,"x":1e400,"latencyMs":12.0)"),
         event_with(R"(,"x":1e400,"latencyMs":12)")},
        {"in metadata", event_with(R"(,"metadata":{"a":1e400})"), "="},
    });
}

}  // namespace opsrelay::parse
