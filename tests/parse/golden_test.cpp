// Reads proto/golden/outcomes.json: the samples are part of the contract, so they are what is
// tested.
#include <doctest/doctest.h>
#include <rapidjson/document.h>
#include <rapidjson/schema.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "core/time_stamp.h"
#include "parse/find_field.h"
#include "parse/parser_fixture.h"

namespace opsrelay::parse {

namespace {

const std::string kProto = std::string(OPSRELAY_SOURCE_DIR) + "/proto/";

std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    REQUIRE_MESSAGE(file.good(), path);
    return {std::istreambuf_iterator<char>(file), {}};
}

rapidjson::Document read_json(const std::string& path) {
    rapidjson::Document document;
    const auto text = slurp(path);
    document.Parse(text.data(), text.size());
    REQUIRE_MESSAGE(!document.HasParseError(), path);
    return document;
}

std::string text_of(const rapidjson::Value& value) {
    return {value.GetString(), value.GetStringLength()};
}

Options options_of(const rapidjson::Value& test) {
    Options options;
    if (!test.HasMember("options")) return options;
    const auto& given = test["options"];
    if (given.HasMember("event_bytes_max")) {
        options.event_bytes_max = Bytes{given["event_bytes_max"].GetUint64()};
    }
    if (given.HasMember("stamp_created_at")) {
        options.stamp_created_at = given["stamp_created_at"].GetBool();
    }
    if (given.HasMember("missing_id")) options.missing_id = MissingId::reject;
    if (given.HasMember("lift_tenant")) options.lift_tenant = given["lift_tenant"].GetBool();
    if (given.HasMember("model_aliases")) {
        for (const auto& alias : given["model_aliases"].GetObject()) {
            options.model_aliases.emplace(text_of(alias.name), text_of(alias.value));
        }
    }
    const auto rule_of = [&](const char* key) {
        if (!given.HasMember(key)) return IdentityRule::pass;
        return text_of(given[key]) == "hash" ? IdentityRule::hash : IdentityRule::drop;
    };
    options.privacy.user_id = rule_of("user_id");
    options.privacy.tenant_id = rule_of("tenant_id");
    if (given.HasMember("hash_key")) options.privacy.hash_key = text_of(given["hash_key"]);
    if (given.HasMember("defaults")) {
        auto& defaults = options.defaults.emplace_back();
        for (const auto& one : given["defaults"].GetObject()) {
            const auto field = find_field(text_of(one.name));
            REQUIRE(field.has_value());
            defaults.push_back({*field, text_of(one.value)});
        }
    }
    return options;
}

std::string sample(const rapidjson::Value& test) {
    auto bytes = slurp(kProto + "golden/" + text_of(test["file"]));
    if (bytes.ends_with('\n')) bytes.pop_back();  // the framing newline
    return bytes;
}

void check_accepted(const rapidjson::Value& test, ParserFixture& fixture) {
    std::string expected_repairs;
    for (const auto& repair : test["repairs"].GetArray()) {
        if (!expected_repairs.empty()) expected_repairs.push_back(' ');
        expected_repairs += text_of(repair);
    }
    auto expected = text_of(test["output"]);
    const std::string placeholder = "<minted>";
    if (const auto at = expected.find(placeholder); at != std::string::npos) {
        expected.replace(at, placeholder.size(), fixture.parser.event().id);
    }
    CHECK(fixture.parser.event().json == expected);
    CHECK(fixture.repairs() == expected_repairs);
}

void check_rejected(const rapidjson::Value& test, const ParserFixture& fixture) {
    const auto& rejection = fixture.parser.rejection();
    CHECK(to_string(rejection.reason) == text_of(test["reason"]));
    CHECK(rejection.field == text_of(test["field"]));
    CHECK(rejection.payload.empty() != test["parsed"].GetBool());
    CHECK_FALSE(rejection.message.empty());
    if (test.HasMember("payload")) CHECK(rejection.payload == text_of(test["payload"]));
}

}  // namespace

TEST_CASE("parse/golden: every sample ends as outcomes.json says") {
    const auto outcomes = read_json(kProto + "golden/outcomes.json");
    REQUIRE(TimeStamp(kReceived).text() == text_of(outcomes["received"]));
    for (const auto& test : outcomes["cases"].GetArray()) {
        const auto name = text_of(test["file"]);
        CAPTURE(name);
        const auto options = options_of(test);
        ParserFixture fixture(options);
        const auto bytes = sample(test);
        const std::uint8_t defaults = options.defaults.empty() ? 0 : 1;
        const auto accepted = fixture.parser.parse(bytes, kReceived, defaults);
        REQUIRE(accepted == (text_of(test["outcome"]) == "accepted"));
        accepted ? check_accepted(test, fixture) : check_rejected(test, fixture);
    }
}

TEST_CASE("parse/golden: every reject reason and every repair has a sample") {
    const auto outcomes = read_json(kProto + "golden/outcomes.json");
    std::set<std::string> seen;
    for (const auto& test : outcomes["cases"].GetArray()) {
        if (test.HasMember("reason")) seen.insert(text_of(test["reason"]));
        if (!test.HasMember("repairs")) continue;
        for (const auto& repair : test["repairs"].GetArray()) seen.insert(text_of(repair));
    }
    for (const auto& row : kRejectReasons)
        CHECK_MESSAGE(seen.contains(std::string(row.name)), row.name);
    for (const auto& row : kRepairs) CHECK_MESSAGE(seen.contains(std::string(row.name)), row.name);
}

TEST_CASE(
    "parse/golden: what is stored satisfies the schema, which knows every field with a rule") {
    const auto schema_json = read_json(kProto + "event.schema.json");
    for (const auto& row : kFields) {
        const std::string name(row.name);
        CHECK_MESSAGE(schema_json["properties"].HasMember(name.c_str()), name);
    }
    const rapidjson::SchemaDocument schema(schema_json);
    const auto outcomes = read_json(kProto + "golden/outcomes.json");
    for (const auto& test : outcomes["cases"].GetArray()) {
        if (text_of(test["outcome"]) != "accepted") continue;
        const auto name = text_of(test["file"]);
        CAPTURE(name);
        auto output = text_of(test["output"]);
        // The document model, unlike the parser, cannot hold a number that large.
        if (const auto at = output.find("1e400"); at != std::string::npos)
            output.replace(at, 5, "1e300");
        rapidjson::Document event;
        event.Parse(output.data(), output.size());
        REQUIRE_FALSE(event.HasParseError());
        rapidjson::SchemaValidator validator(schema);
        CHECK(event.Accept(validator));
    }
    rapidjson::Document wrong;
    wrong.Parse(R"({"externalRequestId":"a","provider":"p","model":"m"})");
    rapidjson::SchemaValidator validator(schema);
    CHECK_FALSE(wrong.Accept(validator));
}

}  // namespace opsrelay::parse
