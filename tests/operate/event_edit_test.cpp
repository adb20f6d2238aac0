#include "operate/event_edit.h"

#include <doctest/doctest.h>

namespace opsrelay::operate {

TEST_CASE("operate/event_edit: fields are replaced where they stand, or added at the end") {
    struct Case {
        const char* name;
        const char* event;
        std::vector<FieldEdit> edits;
        const char* after;
    };
    const Case cases[] = {
        {"nothing", R"({"a":1})", {}, R"({"a":1})"},
        {"text", R"({"a":1,"b":"x"})", {{"b", "\"y\""}}, R"({"a":1,"b":"y"})"},
        {"new", R"({"a":1})", {{"z", "true"}, {"b", "[1]"}}, R"({"a":1,"b":[1],"z":true})"},
        {"object by number", R"({"a":{"b":{"c":[1,{}]}},"d":2})", {{"a", "7"}}, R"({"a":7,"d":2})"},
        {"array by object",
         R"({"a":[{"a":1},[2]],"d":2})",
         {{"a", "{\"x\":null}"}},
         R"({"a":{"x":null},"d":2})"},
        {"only at the top", R"({"m":{"a":1},"a":2})", {{"a", "3"}}, R"({"m":{"a":1},"a":3})"},
        {"the last of the same", R"({"a":1})", {{"a", "2"}, {"a", "3"}}, R"({"a":3})"},
        {"a key that is there twice",
         R"({"a":1,"b":2,"a":{"c":3}})",
         {{"a", "4"}},
         R"({"a":4,"b":2})"},
        {"escaped key", R"({"\u0061":1})", {{"a", "2"}}, R"({"a":2})"},
        {"numbers to the digit",
         R"({"a":0.10000000000000000001,"b":123456789012345678901e5})",
         {{"c", "1.0"}},
         R"({"a":0.10000000000000000001,"b":123456789012345678901e5,"c":1.0})"},
        {"empty event", "{}", {{"a", "null"}}, R"({"a":null})"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto edited = set_fields(test.event, test.edits);
        REQUIRE(edited.has_value());
        CHECK(*edited == test.after);
    }
}

TEST_CASE("operate/event_edit: no object, and values that are no JSON, are refused") {
    for (const auto* const event : {"", "[]", "1", "null", "\"x\"", R"({"a":1)", "{}{}"}) {
        CAPTURE(event);
        CHECK(set_fields(event, {{"a", "1"}}).has_error());
    }
    for (const auto* const value : {"", "x", "1,\"b\":2", "{", "\"", "1 2"}) {
        CAPTURE(value);
        const auto edited = set_fields("{}", {{"a", value}});
        REQUIRE(edited.has_error());
        CHECK(edited.error().context == "a: the value is no JSON");
    }
}

TEST_CASE("operate/event_edit: a NUL is no end") {
    using namespace std::string_view_literals;
    CHECK_FALSE(is_json("1\0"sv));
    CHECK_FALSE(is_json("{}\0{}"sv));
    CHECK(set_fields("{}\0"sv, {{"a", "1"}}).has_error());
    CHECK(set_fields("{}", {{"a", std::string("1\0", 2)}}).has_error());
}

}  // namespace opsrelay::operate
