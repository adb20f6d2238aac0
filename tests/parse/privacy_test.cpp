#include "parse/privacy.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "parse/parser_fixture.h"
#include "parse/pseudonym.h"

namespace opsrelay::parse {

namespace {

// HMAC-SHA-256 of "u-1" and "t-1" under kKey, made with `openssl dgst -sha256 -hmac`.
const std::string kKey = "0123456789abcdef0123456789abcdef";
const std::string kUserName = "h_8728cad5b6657e664bb4312bffb6db8b";
const std::string kTenantName = "h_dabb88f5f499d1e6ad6a11b68fd06821";

Options with_rules(IdentityRule user, IdentityRule tenant) {
    Options options;
    options.privacy.user_id = user;
    options.privacy.tenant_id = tenant;
    options.privacy.hash_key = kKey;
    return options;
}

struct PrivacyCase {
    std::string name;
    std::string members;
    std::string expected;  // members of what is stored, "=": the same; or the reason
    const char* repairs;
};

void check_cases(const std::vector<PrivacyCase>& cases, const Options& options) {
    ParserFixture fixture(options);
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto bytes = event_with(test.members);
        const auto& wanted = test.expected == "=" ? test.members : test.expected;
        const auto reason = !wanted.empty() && wanted.front() != ',';
        CHECK(fixture.outcome(bytes) == (reason ? wanted : event_with(wanted)));
        if (fixture.parse(bytes)) CHECK(fixture.repairs() == test.repairs);
    }
}

// The payload of the dead letter that a rejected event becomes.
std::string rejected(ParserFixture& fixture, const std::string& bytes) {
    REQUIRE_FALSE(fixture.parse(bytes));
    return std::string(fixture.parser.rejection().payload);
}

}  // namespace

TEST_CASE("parse/privacy: denied keys lose strings, arrays and objects at any depth") {
    const char* const removed = "denied_removed";
    check_cases(
        {{"string", R"(,"prompt":"secret")", "", removed},
         {"array", R"(,"messages":[{"role":"user"},["secret"]])", "", removed},
         {"object", R"(,"response":{"a":{"b":"secret"}})", "", removed},
         {"empty ones", R"(,"text":"","input":[],"output":{})", "", removed},
         {"numbers, booleans and null stay", R"(,"input":5,"output":true,"content":null)", "=", ""},
         {"any case", R"(,"Prompt":"secret","CONTENT":"secret")", "", removed},
         {"escaped", R"(,"pro\u006dpt":"secret")", "", removed},
         {"only whole keys", R"(,"prompts":"a","prompt_":"b","rompt":"c","":"d")", "=", ""},
         {"nested", R"(,"x":{"a":1,"prompt":"secret","b":[{"text":"secret"},{"c":2}]})",
          R"(,"x":{"a":1,"b":[{},{"c":2}]})", removed},
         {"in metadata", R"(,"metadata":{"content":"secret","a":1})", R"(,"metadata":{"a":1})",
          removed},
         {"an object in metadata that is removed", R"(,"metadata":{"a":1,"input":{"b":"secret"}})",
          R"(,"metadata":{"a":1})", removed},
         {"an object in metadata that is not", R"(,"metadata":{"a":{"input":"secret"}})",
          "bad_type metadata", ""},
         {"within what is removed", R"(,"prompt":{"prompt":"secret","text":["secret"]})", "",
          removed},
         {"behind what is removed", R"(,"prompt":{"a":[{}]},"x":{"text":"secret"})", R"(,"x":{})",
          removed},
         {"all members of an object", R"(,"x":{"prompt":"a","text":"b","input":[1]},"y":1)",
          R"(,"x":{},"y":1)", removed},
         {"the first, the last, those between",
          R"(,"x":{ "text":"a" , "input":"b" ,"k":1, "prompt":"c","l":2 , "content":"d" })",
          R"(,"x":{  "k":1,"l":2  })", removed},
         {"a key as a value", R"(,"x":"prompt","y":["prompt","text"])", "=", ""}},
        {});
    ParserFixture fixture;
    CHECK(fixture.outcome(R"({"prompt":"a","messages":["b"] , )" + event_with("").substr(1)) ==
          "{ " + event_with("").substr(1));
}

TEST_CASE("parse/privacy: denied keys are what the operator lists") {
    Options options;
    options.privacy.deny_fields = {"note", "GRÖSSE"};
    check_cases(
        {{"listed", R"(,"NOTE":"secret","prompt":"kept")", R"(,"prompt":"kept")", "denied_removed"},
         {"case of ASCII letters only", R"(,"grÖsse":"a","größe":"b")", R"(,"größe":"b")",
          "denied_removed"}},
        options);
    options.privacy.deny_fields.clear();
    check_cases({{"none", R"(,"prompt":"kept","x":{"text":"kept"})", "=", ""}}, options);
}

TEST_CASE("parse/privacy: identities become pseudonyms, and stay what they are then") {
    const auto options = with_rules(IdentityRule::hash, IdentityRule::hash);
    const char* const hashed = "identity_hashed";
    check_cases(
        {{"user", R"(,"userId":"u-1")", R"(,"userId":")" + kUserName + '"', hashed},
         {"escaped user", R"(,"userId":"\u0075-1")", R"(,"userId":")" + kUserName + '"', hashed},
         {"tenant", R"(,"tenantId":"t-1")", R"(,"tenantId":")" + kTenantName + '"', hashed},
         {"tenant in metadata, lifted", R"(,"metadata":{"tenantId":"t-1"})",
          R"(,"metadata":{"tenantId":")" + kTenantName + R"("},"tenantId":")" + kTenantName + '"',
          "tenant_lifted identity_hashed"},
         {"user in metadata", R"(,"metadata":{"userId":"u-1","a":2})",
          R"(,"metadata":{"userId":")" + kUserName + R"(","a":2})", hashed},
         {"twice in metadata", R"(,"metadata":{"userId":"u-1","userId":"u-1"})",
          R"(,"metadata":{"userId":")" + kUserName + R"(","userId":")" + kUserName + R"("})",
          hashed},
         {"pseudonym", R"(,"userId":")" + kUserName + '"', "=", ""},
         {"empty, null", R"(,"userId":"","tenantId":null)", "=", ""},
         {"deeper or elsewhere it is no identity", R"(,"x":{"userId":"u-1"},"y":[{"tenantId":1}])",
          "=", ""},
         {"too long", R"(,"userId":"x)" + std::string(256, 'x') + '"', "bad_type userId", ""},
         {"a number is no userId", R"(,"userId":7)", "bad_type userId", ""},
         {"an object in metadata", R"(,"metadata":{"tenantId":{"a":"secret"},"b":1})",
          R"(,"metadata":{"b":1})", "denied_removed"}},
        options);
    ParserFixture fixture(options);
    REQUIRE(fixture.parse(event_with(R"(,"metadata":{"tenantId":42})")));
    const std::string once(fixture.parser.event().json);
    CHECK(once.find("42") == std::string::npos);
    CHECK(fixture.outcome(once) == once);
    CHECK(fixture.repairs().empty());
    for (const auto& other : {std::string("h_"), "H_" + kUserName.substr(2), kUserName + "0",
                              "h_" + std::string(32, 'g'), kUserName.substr(1)}) {
        CHECK_FALSE(is_pseudonym(other));
    }
}

TEST_CASE("parse/privacy: another key gives other names, user and tenant follow their own rules") {
    auto options = with_rules(IdentityRule::hash, IdentityRule::pass);
    options.privacy.hash_key = "another key of more than 16 bytes";
    ParserFixture fixture(options);
    const auto stored = fixture.outcome(event_with(R"(,"userId":"u-1","tenantId":"t-1")"));
    CHECK(stored.find(kUserName) == std::string::npos);
    CHECK(stored.find("u-1") == std::string::npos);
    CHECK(stored.find(R"("tenantId":"t-1")") != std::string::npos);
}

TEST_CASE("parse/privacy: identities are dropped wherever they stand") {
    const char* const dropped = "identity_dropped";
    check_cases({{"both", R"(,"userId":"u-1","tenantId":"t-1")", "", dropped},
                 {"in metadata, nothing is lifted",
                  R"(,"metadata":{"tenantId":"t-1","userId":"u-1"})", R"(,"metadata":{})", dropped},
                 {"whatever it is", R"(,"userId":7,"tenantId":true)", "", dropped},
                 {"objects", R"(,"userId":{"mail":"a"},"tenantId":["b"])", "", "denied_removed"},
                 {"null stays", R"(,"userId":null)", "=", ""}},
                with_rules(IdentityRule::drop, IdentityRule::drop));
}

TEST_CASE("parse/privacy: what passes and looks personal is counted, not changed") {
    const char* const personal = "identity_personal";
    check_cases({{"address", R"(,"userId":"jo.doe+x@example.com")", "=", personal},
                 {"number", R"(,"tenantId":"+49 30 1234567")", "=", personal},
                 {"in metadata", R"(,"metadata":{"tenantId":"a@b.example"})",
                  R"(,"metadata":{"tenantId":"a@b.example"},"tenantId":"a@b.example")",
                  "tenant_lifted identity_personal"},
                 {"opaque", R"(,"userId":"us_91c2be07","tenantId":"12345678901")", "=", ""}},
                {});
    for (const std::string text : {"a@b.c", " a@b.c ", "+4930123456", "(030) 123-4567",
                                   "030/1234567", "+1 (212) 555-0100"}) {
        CAPTURE(text);
        CHECK(looks_personal(text));
    }
    for (const std::string text :
         {"", "@", "a@", "@b.c", "a@b", "a@.c", "a@b.", "a@b@c.d", "a b@c.d", "user:a@b.c", "+",
          "+1234567", "+1234567890123456", "12345678901", "2026-05-01", "1-2-3-4-5-6-7-8",
          "3f2a-9b1c-77de", "7f0c6a52-4b1e-4c53-9a5e-2f8f0b6d1c11", "123456789x"}) {
        CAPTURE(text);
        CHECK_FALSE(looks_personal(text));
    }
}

TEST_CASE("parse/privacy: a rejected event is kept without what must not be kept") {
    ParserFixture fixture;
    const std::string head = R"({"externalRequestId":"i","provider":"p","model":"m","status":"?")";
    CHECK(rejected(fixture, head + R"(,"prompt":"secret","x":{"text":["secret"],"a":1}})") ==
          head + R"(,"x":{"a":1}})");
    // Repairs that were noted before the event turned out to be wrong are not made.
    CHECK(rejected(fixture, R"({"externalRequestId":7,"provider":" p ","model":"m",)"
                            R"("usage":{"input_tokens":1,"input":"secret"},"status":0})") ==
          R"({"externalRequestId":7,"provider":" p ","model":"m","usage":{"input_tokens":1},)"
          R"("status":0})");
    CHECK(rejected(fixture, "{\"provider\":\"p\",\n\"prompt\":\"secret\"\n}") ==
          R"({"provider":"p" })");
    CHECK(rejected(fixture, R"({"prompt":"secret","prompt":"secret2"})") == "{}");
    CHECK(rejected(fixture, R"({"prompt":"secret")").empty());
    CHECK(rejected(fixture, R"(["secret"])").empty());

    ParserFixture strict(with_rules(IdentityRule::hash, IdentityRule::drop));
    CHECK(rejected(strict, R"({"userId":"u-1","userId":"u-1","tenantId":"t-1","tenantId":"t-1",)"
                           R"("metadata":{"tenantId":"t-1"},"metadata":{"userId":"u-1"}})") ==
          R"({"userId":")" + kUserName + R"(","userId":")" + kUserName +
              R"(","metadata":{},"metadata":{"userId":")" + kUserName + R"("}})");
    CHECK(rejected(strict, R"({"userId":{"mail":"secret"},"metadata":{"userId":["secret"]}})") ==
          R"({"metadata":{}})");
}

}  // namespace opsrelay::parse
