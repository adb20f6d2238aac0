#include "core/json_document.h"

#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <string>

using namespace opsrelay;

TEST_CASE("core/json_document: a number is the nearest double, a zero is zero") {
    struct Case {
        const char* text;
        double value;
    };
    const Case cases[] = {
        {"0e66", 0},     {"0.000e-300", 0},
        {"-0e99", 0},    {"0.00000000000000000000000000000000", 0},
        {"0.1", 0.1},    {"5.0e-324", 5.0e-324},
        {"1e23", 1e23},  {"1.7976931348623157e308", 1.7976931348623157e308},
        {"-2.5", -2.5},  {"9007199254740993.0", 9007199254740992.0},
        {"1E+2", 100.0}, {"12345678901234567890123", 12345678901234567890123.0},
    };
    for (const auto& test : cases) {
        CAPTURE(test.text);
        rapidjson::Document read;
        REQUIRE(read_json_document(test.text, read));
        REQUIRE(read.IsDouble());
        CHECK(read.GetDouble() == test.value);
    }
}

TEST_CASE("core/json_document: integers stay integers, and the rest is as it was") {
    rapidjson::Document read;
    REQUIRE(read_json_document(R"({"a":[18446744073709551615,-9223372036854775808,7,-0],)"
                               R"("b":{"c":"x\u0000y"},"d":[null,true]})",
                               read));
    const rapidjson::Value& object = read;
    CHECK(object["a"][0].GetUint64() == 18446744073709551615ULL);
    CHECK(object["a"][1].GetInt64() == INT64_MIN);
    CHECK(object["a"][2].IsUint());
    CHECK(object["a"][3].IsDouble());
    CHECK(std::string(object["b"]["c"].GetString(), object["b"]["c"].GetStringLength()) ==
          std::string("x\0y", 3));
    CHECK(object["d"][0].IsNull());
    CHECK(object["d"][1].GetBool());
    REQUIRE(read_json_document("{}", read));  // once more
    CHECK(read.ObjectEmpty());
}

TEST_CASE("core/json_document: what is no JSON is refused") {
    const std::string deep(100'000, '[');
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("{} x"), std::string("01"),
          std::string("1."), std::string("1e999"), std::string("NaN"), std::string("[1,]"),
          std::string("{}\0{}", 5), deep}) {
        CAPTURE(text.substr(0, 10));
        rapidjson::Document read;
        CHECK_FALSE(read_json_document(text, read));
    }
}
