// Random events, all from printed seeds: what needs no repair comes out byte for byte, whatever is
// accepted is accepted again without a further repair, and nothing private is left in anything.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <optional>
#include <string>
#include <vector>

#include "parse/generator.h"
#include "parse/key_set.h"
#include "parse/parser_fixture.h"

namespace opsrelay::parse {

namespace {

// The rules in all their combinations, by turns.
Options options_for(std::uint64_t seed) {
    Options options;
    options.privacy.user_id = static_cast<IdentityRule>(seed % 3);
    options.privacy.tenant_id = static_cast<IdentityRule>(seed / 3 % 3);
    options.privacy.hash_key = "sixteen bytes or more";
    options.lift_tenant = seed / 9 % 2 == 0;
    options.model_aliases = {{"m", "model-m"}, {"gpt-4o", "gpt-4-o"}};
    options.defaults.push_back({{Field::environment, "staging"}, {Field::feature_tag, "f \"1\""}});
    if (options.privacy.tenant_id != IdentityRule::drop) {
        options.defaults[0].push_back({Field::tenant_id, "tenant of the listener"});
    }
    return options;
}

// False when a denied key still has a string, array or object.
bool clean(const rapidjson::Value& value, const KeySet& denied) {
    if (value.IsArray()) {
        for (const auto& item : value.GetArray()) {
            if (!clean(item, denied)) return false;
        }
    }
    if (!value.IsObject()) return true;
    for (const auto& [key, inner] : value.GetObject()) {
        const auto removable = inner.IsString() || inner.IsArray() || inner.IsObject();
        if (removable && denied.contains({key.GetString(), key.GetStringLength()})) return false;
        if (!clean(inner, denied)) return false;
    }
    return true;
}

// nullopt when RapidJSON's documents cannot hold it, such as 1e400.
std::optional<bool> is_clean(std::string_view json) {
    rapidjson::Document document;
    document.Parse<rapidjson::kParseIterativeFlag>(json.data(), json.size());
    if (document.GetParseError() == rapidjson::kParseErrorNumberTooBig) return std::nullopt;
    CHECK_FALSE(document.HasParseError());
    return clean(document, KeySet(Privacy{}.deny_fields));
}

// Offers what came out once more: nothing but the counted mismatch may be found.
void check_settled(EventParser& parser, const Event& event) {
    const std::string json(event.json);
    const std::string id(event.id);
    CHECK(json.find('\n') == std::string::npos);
    REQUIRE(parser.parse(json, kReceived + hours{1}, 1));
    CHECK(parser.event().json == json);
    CHECK(parser.event().id == id);
    CHECK((parser.event().repairs & ~kCountedOnly) == 0U);
}

}  // namespace

TEST_CASE("parse/property: an event that needs no repair is kept byte for byte") {
    ParserFixture fixture;
    for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
        const auto bytes = Generator(seed).clean_event();
        CAPTURE(seed);
        CAPTURE(bytes);
        REQUIRE(fixture.parse(bytes));
        REQUIRE(fixture.parser.event().json == bytes);
        REQUIRE((fixture.parser.event().repairs & ~kCountedOnly) == 0U);
    }
}

TEST_CASE("parse/property: damaged events never crash, and what is accepted needs no more repair") {
    const auto samples = golden_samples();
    std::size_t accepted = 0;
    std::size_t rejected = 0;
    std::size_t looked_into = 0;
    for (std::uint64_t rules = 0; rules < 18; ++rules) {
        ParserFixture fixture(options_for(rules));
        ParserFixture again(options_for(rules));
        for (std::uint64_t seed = rules + 1; seed <= 20'000; seed += 18) {
            CAPTURE(seed);
            Generator generator(seed);
            const auto bytes = seed % 4 == 0 ? generator.mutated(generator.clean_event())
                                             : generator.mutated(samples[seed % samples.size()]);
            // A copy of exactly this size, so that the sanitizer sees a read beyond the end.
            const std::vector<char> exact(bytes.begin(), bytes.end());
            const auto good = fixture.parser.parse({exact.data(), exact.size()}, kReceived, 1);
            const auto kept =
                good ? fixture.parser.event().json : fixture.parser.rejection().payload;
            if (const auto verdict = kept.empty() ? std::nullopt : is_clean(kept)) {
                ++looked_into;
                CHECK(*verdict);
            }
            if (good) {
                ++accepted;
                check_settled(again.parser, fixture.parser.event());
            } else {
                ++rejected;
                CHECK_FALSE(fixture.parser.rejection().message.empty());
            }
        }
    }
    CHECK(accepted > 1000);  // the mutations are neither all harmless nor all fatal
    CHECK(rejected > 1000);
    CHECK(looked_into > 1000);
}

TEST_CASE("parse/property: nothing private is kept of an event, admissible or not") {
    Options options;
    options.privacy.user_id = IdentityRule::hash;
    options.privacy.tenant_id = IdentityRule::drop;
    options.privacy.hash_key = "sixteen bytes or more";
    ParserFixture fixture(options);
    ParserFixture again(options);
    std::size_t accepted = 0;
    for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
        CAPTURE(seed);
        const auto good = seed % 2 == 0;
        const auto bytes = Generator(seed).private_event(good ? R"("success")" : R"("fine")");
        CAPTURE(bytes);
        REQUIRE(bytes.find(kSecret) != std::string::npos);
        const auto taken = fixture.parse(bytes);
        if (taken) {
            ++accepted;
            CHECK(fixture.parser.event().json.find(kSecret) == std::string::npos);
            const std::string json(fixture.parser.event().json);
            REQUIRE(again.parse(json));
            CHECK(again.parser.event().json == json);
        } else {
            const auto& rejection = fixture.parser.rejection();
            REQUIRE_FALSE(rejection.payload.empty());
            CHECK(rejection.payload.find(kSecret) == std::string::npos);
            CHECK(rejection.message.find(kSecret) == std::string::npos);
            if (good) CHECK(rejection.reason == RejectReason::duplicate_key);
        }
    }
    CHECK(accepted > 500);
}

TEST_CASE("parse/property: the content hash does not depend on when and how it came in") {
    for (std::uint64_t rules = 0; rules < 18; ++rules) {
        ParserFixture one(options_for(rules));
        ParserFixture other(options_for(rules));
        for (std::uint64_t seed = 1; seed <= 100; ++seed) {
            CAPTURE(seed);
            Generator generator(seed);
            const auto bytes =
                seed % 2 == 0 ? generator.clean_event() : generator.private_event("null");
            if (!one.parser.parse(bytes, kReceived, 1)) continue;
            REQUIRE(other.parser.parse(bytes, kReceived + hours{7}, 0));
            CHECK(one.parser.event().content_hash == other.parser.event().content_hash);
        }
    }
}

}  // namespace opsrelay::parse
