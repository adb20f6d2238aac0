#include "upstream/validation.h"

#include <doctest/doctest.h>

#include <string>

namespace opsrelay::upstream {

namespace {

constexpr Rules kLenient{.lenient = true};

/// A valid body with one field replaced; an empty `value` removes it.
std::string with(std::string_view field, std::string_view value) {
    struct Member {
        std::string_view name;
        std::string_view value;
    };
    const Member members[] = {{"externalRequestId", "\"a\""}, {"provider", "\"openai\""},
                              {"model", "\"gpt-4o\""},        {"inputTokens", "1"},
                              {"outputTokens", "2"},          {"status", "\"success\""}};
    std::string out = "{";
    bool replaced = false;
    const auto add = [&](std::string_view name, std::string_view text) {
        if (text.empty()) return;
        if (out.size() > 1) out += ',';
        out.append("\"").append(name).append("\":").append(text);
    };
    for (const auto& member : members) {
        const bool here = member.name == field;
        add(member.name, here ? value : member.value);
        replaced = replaced || here;
    }
    if (!replaced) add(field, value);
    return out + "}";
}

std::string fields_of(const Checked& checked) {
    std::string out;
    for (const auto& error : checked.errors) {
        if (!out.empty()) out += ' ';
        out += error.field;
    }
    return out;
}

}  // namespace

TEST_CASE("upstream/validation: each field has its type, and the documented ones are required") {
    struct Case {
        const char* name;
        const char* field;
        const char* value;
        const char* refused;
        const char* refused_lenient;
    };
    const Case cases[] = {
        {"valid", "extra", "{\"any\":[1]}", "", ""},
        {"no id", "externalRequestId", "", "externalRequestId", ""},
        {"null id", "externalRequestId", "null", "externalRequestId", ""},
        {"blank id", "externalRequestId", "\"  \"", "externalRequestId", "externalRequestId"},
        {"number id", "externalRequestId", "7", "externalRequestId", "externalRequestId"},
        {"no provider", "provider", "", "provider", ""},
        {"empty provider", "provider", "\"\"", "provider", "provider"},
        {"no model", "model", "", "model", ""},
        {"number model", "model", "4", "model", "model"},
        {"no input tokens", "inputTokens", "", "inputTokens", ""},
        {"string tokens", "inputTokens", "\"10\"", "inputTokens", "inputTokens"},
        {"negative tokens", "outputTokens", "-1", "outputTokens", "outputTokens"},
        {"fraction", "outputTokens", "1.5", "outputTokens", "outputTokens"},
        {"largest", "outputTokens", "2147483647", "", ""},
        {"too large", "outputTokens", "2147483648", "outputTokens", "outputTokens"},
        {"bad total", "totalTokens", "\"3\"", "totalTokens", "totalTokens"},
        {"null total", "totalTokens", "null", "", ""},
        {"bad latency", "latencyMs", "12.5", "latencyMs", "latencyMs"},
        {"no status", "status", "", "status", "status"},
        {"bad status", "status", "\"ok\"", "status", "status"},
        {"status in capitals", "status", "\"Success\"", "status", "status"},
        {"error status", "status", "\"error\"", "", ""},
        {"bad mode", "dataMode", "\"production\"", "dataMode", "dataMode"},
        {"null mode", "dataMode", "null", "", ""},
        {"bad environment", "environment", "\"production\"", "environment", "environment"},
        {"good environment", "environment", "\"staging\"", "", ""},
        {"integer error code", "errorCode", "429", "", ""},
        {"object error code", "errorCode", "{}", "errorCode", "errorCode"},
        {"number user", "userId", "5", "userId", "userId"},
        {"null user", "userId", "null", "", ""},
        {"text metadata", "metadata", "\"x\"", "metadata", "metadata"},
        {"number createdAt", "createdAt", "1", "createdAt", "createdAt"},
    };
    for (const auto& test : cases) {
        CAPTURE(std::string(test.name));
        const auto body = with(test.field, test.value);
        CHECK(fields_of(check_request(body, Rules{})) == test.refused);
        CHECK(fields_of(check_request(body, kLenient)) == test.refused_lenient);
    }
}

TEST_CASE("upstream/validation: what is not a JSON object is refused as a whole") {
    const std::string deep(200'000, '[');
    const std::string cases[] = {"", "x", "[]", "1", "{", "{} {}", "{\"a\":\"\xff\"}", deep};
    for (const auto& body : cases) {
        CAPTURE(body.substr(0, 20));
        CHECK(fields_of(check_request(body, kLenient)) == "body");
    }
}

TEST_CASE("upstream/validation: an absent id is noticed, also when it is allowed") {
    CHECK(check_request(with("externalRequestId", ""), kLenient).missing_id);
    CHECK(check_request(with("externalRequestId", ""), Rules{}).missing_id);
    CHECK_FALSE(check_request(with("model", ""), Rules{}).missing_id);
    CHECK(check_request(with("externalRequestId", "\"e-1\""), Rules{}).submission.id == "e-1");
}

TEST_CASE("upstream/validation: unknown fields and long ids are refused when told so") {
    const auto extra = with("region", "\"eu\"");
    CHECK(fields_of(check_request(extra, Rules{})).empty());
    CHECK(fields_of(check_request(extra, {.reject_unknown_fields = true})) == "region");
    for (const char* known : {"metadata", "createdAt", "totalTokens", "featureTag"}) {
        CAPTURE(known);
        CHECK(
            fields_of(check_request(with(known, "null"), {.reject_unknown_fields = true})).empty());
    }
    const auto id = with("externalRequestId", "\"1234\"");
    CHECK(fields_of(check_request(id, {.id_bytes_max = 4})).empty());
    CHECK(fields_of(check_request(id, {.id_bytes_max = 3})) == "externalRequestId");
}

TEST_CASE("upstream/validation: mode and createdAt are read") {
    CHECK(check_request(with("dataMode", "\"demo\""), Rules{}).submission.mode == DataMode::demo);
    CHECK(check_request(with("dataMode", "null"), Rules{}).submission.mode == DataMode::real);
    const auto created = with("createdAt", "\"2026-04-01T00:00:00.25Z\"");
    CHECK_FALSE(check_request(created, Rules{}).submission.created_at.has_value());
    const auto read = check_request(created, {.read_created_at = true}).submission.created_at;
    REQUIRE(read.has_value());
    CHECK(unix_ms(*read) == 1'775'001'600'250);
    const auto nonsense = with("createdAt", "\"yesterday\"");
    CHECK_FALSE(check_request(nonsense, {.read_created_at = true}).submission.created_at);
}

}  // namespace opsrelay::upstream
