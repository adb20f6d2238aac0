#include "parse/event_parser.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "parse/parser_fixture.h"

namespace opsrelay::parse {

namespace {

// "=" stands for "kept byte for byte".
struct FieldCase {
    std::string name;
    std::string members;
    std::string expected;
    const char* repairs;
};

void check_cases(const std::vector<FieldCase>& cases, std::string (*event)(std::string_view)) {
    ParserFixture fixture;  // one for all: nothing may carry over from a case to the next
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto bytes = event(test.members);
        const auto expected = test.expected == "=" ? bytes : test.expected;
        CHECK(fixture.outcome(bytes) == expected);
        if (fixture.parse(bytes)) CHECK(fixture.repairs() == test.repairs);
    }
}

std::string with_id(std::string_view id) {
    return R"({"provider":"openai","model":"m","inputTokens":1,"outputTokens":2,"totalTokens":3,)"
           R"("status":"success","createdAt":"2026-05-01","externalRequestId":)" +
           std::string(id) + "}";
}

std::string with_provider(std::string_view provider) {
    return R"({"externalRequestId":"i","model":"m","inputTokens":1,"outputTokens":2,)"
           R"("totalTokens":3,"status":"success","createdAt":"2026-05-01","provider":)" +
           std::string(provider) + "}";
}

std::string with_input(std::string_view tokens) {
    return R"({"externalRequestId":"i","provider":"p","model":"m","outputTokens":0,)"
           R"("totalTokens":0,"status":"success","createdAt":"2026-05-01","inputTokens":)" +
           std::string(tokens) + "}";
}

std::string with_created_at(std::string_view value) {
    return R"({"externalRequestId":"i","provider":"p","model":"m","inputTokens":1,)"
           R"("outputTokens":2,"totalTokens":3,"createdAt":)" +
           std::string(value) + R"(,"status":"success"})";
}

}  // namespace

TEST_CASE("parse/event_parser: externalRequestId is 1 to 256 printable bytes, not trimmed") {
    const std::string longest = '"' + std::string(256, 'i') + '"';
    const std::string bad = "bad_id externalRequestId";
    check_cases(
        {{"usual", R"("a-1")", "=", ""},
         {"inner and outer spaces", R"(" a b ")", "=", ""},
         {"longest", longest, "=", ""},
         {"two-byte characters up to the limit", '"' + std::string(254, 'i') + "\u00e9\"", "=", ""},
         {"one byte too long", '"' + std::string(257, 'i') + '"', bad, ""},
         {"too long by a two-byte character", '"' + std::string(255, 'i') + "\u00e9\"", bad, ""},
         {"empty", R"("")", bad, ""},
         {"spaces", R"("  ")", bad, ""},
         {"no-break and ideographic spaces", "\"\u00a0\u3000\"", bad, ""},
         {"escaped tab only", R"("\t")", bad, ""},
         {"escaped NUL", R"("a\u0000b")", bad, ""},
         {"escaped newline", R"("a\nb")", bad, ""},
         {"DEL", "\"a\x7f\"", bad, ""},
         {"C1 control", "\"a\u0085b\"", bad, ""},
         {"line separator", "\"a\u2028b\"", bad, ""},
         {"escaped printable", R"("\u0061\/")", "=", ""},
         {"integer", "42", with_id(R"("42")"), "id_to_string"},
         {"negative integer", "-7", with_id(R"("-7")"), "id_to_string"},
         {"beyond 64 bits", "123456789012345678901234567890",
          with_id(R"("123456789012345678901234567890")"), "id_to_string"},
         {"fraction", "4.0", bad, ""},
         {"exponent", "1e3", bad, ""},
         {"boolean", "true", bad, ""},
         {"object", R"({"a":1})", bad, ""},
         {"array", R"(["a"])", bad, ""}},
        with_id);
}

TEST_CASE("parse/event_parser: a missing id is minted once per event, or rejected") {
    ParserFixture fixture;
    const auto bytes = bare_with("").replace(1, 27, "");
    REQUIRE(bytes.starts_with(R"({"provider")"));
    REQUIRE(fixture.parse(bytes));
    const std::string first(fixture.parser.event().id);
    const auto hash = fixture.parser.event().content_hash;
    CHECK(first.size() == 36);
    CHECK(fixture.parser.event().json.find("\"externalRequestId\":\"" + first + "\"}") !=
          std::string_view::npos);
    REQUIRE(fixture.parse(bytes));
    CHECK(fixture.parser.event().id != first);
    CHECK(fixture.parser.event().content_hash == hash);  // the same event but for the minted id

    ParserFixture strict(Options{.missing_id = MissingId::reject});
    CHECK(strict.outcome(bytes) == "missing_id externalRequestId");
    CHECK(strict.outcome(with_id("null")) == "missing_id externalRequestId");
    CHECK(strict.parse(with_id("\"a\"")));
}

TEST_CASE("parse/event_parser: provider and model are required, trimmed and never guessed") {
    check_cases(
        {{"usual", R"("openai")", "=", ""},
         {"not a known one", R"("Some Vendor")", "=", ""},
         {"leading space", R"(" openai")", with_provider(R"("openai")"), "trimmed"},
         {"escaped white space", R"("\u0020openai\n")", with_provider(R"("openai")"), "trimmed"},
         {"quotes stay escaped", R"(" \"a\\b\" ")", with_provider(R"("\"a\\b\"")"), "trimmed"},
         {"inner controls stay escaped", R"(" a\t\u0001b")", with_provider(R"("a\t\u0001b")"),
          "trimmed"},
         {"wide spaces", "\"\u2003x\u00a0\"", with_provider(R"("x")"), "trimmed"},
         {"empty", R"("")", "missing_provider provider", ""},
         {"white space", R"(" \t")", "missing_provider provider", ""},
         {"null", "null", "missing_provider provider", ""},
         {"number", "1", "bad_type provider", ""},
         {"object", R"({"name":"openai"})", "bad_type provider", ""}},
        with_provider);
    ParserFixture fixture;
    CHECK(fixture.outcome(R"({"externalRequestId":"i","provider":"p"})") == "missing_model model");
    CHECK(fixture.outcome(R"({"externalRequestId":"i","model":"m"})") ==
          "missing_provider provider");
    CHECK(fixture.outcome(R"({"externalRequestId":"i","provider":"p","model":false})") ==
          "bad_type model");
    CHECK(fixture.outcome("{}") == "missing_provider provider");
}

TEST_CASE("parse/event_parser: token counts are judged exactly") {
    const std::string bad = "bad_tokens inputTokens";
    const auto integral = [](const char* tokens) { return with_input(tokens); };
    check_cases(
        {{"zero", "0", "=", ""},
         {"largest", "2147483647", "=", "total_mismatch"},
         {"one more", "2147483648", bad, ""},
         {"largest, spelled with a point", "2147483647.0", integral("2147483647"),
          "tokens_integral total_mismatch"},
         {"a fraction above the largest", "2147483647.5", bad, ""},
         {"point zero", "742.0", integral("742"), "tokens_integral total_mismatch"},
         {"exponent", "1e2", integral("100"), "tokens_integral total_mismatch"},
         {"point and exponent", "1.5E+1", integral("15"), "tokens_integral total_mismatch"},
         {"negative exponent, whole", "1200e-2", integral("12"), "tokens_integral total_mismatch"},
         {"negative exponent, fraction", "1e-2", bad, ""},
         {"minus zero", "-0", integral("0"), "tokens_integral"},
         {"minus zero point zero", "-0.0", integral("0"), "tokens_integral"},
         {"zero with a huge exponent", "0e999999999999", integral("0"), "tokens_integral"},
         {"half", "0.5", bad, ""},
         {"negative", "-1", bad, ""},
         {"no double holds it", "1e400", bad, ""},
         {"too close to zero", "1e-400", bad, ""},
         {"400 digits", std::string(400, '9'), bad, ""},
         {"string", R"("10")", bad, ""},
         {"boolean", "true", bad, ""},
         {"array", "[1]", bad, ""}},
        with_input);
}

TEST_CASE("parse/event_parser: absent token counts are filled, a wrong total is only counted") {
    const std::string status = R"(,"status":"success")";
    check_cases(
        {{"all absent", status,
          bare_with(status + R"(,"inputTokens":0,"outputTokens":0,"totalTokens":0)"),
          "tokens_filled"},
         {"total absent", status + R"(,"inputTokens":3,"outputTokens":4)",
          bare_with(status + R"(,"inputTokens":3,"outputTokens":4,"totalTokens":7)"),
          "tokens_filled"},
         {"input absent", status + R"(,"outputTokens":4,"totalTokens":4)",
          bare_with(status + R"(,"outputTokens":4,"totalTokens":4,"inputTokens":0)"),
          "tokens_filled"},
         {"null is filled where it stands", R"(,"inputTokens": null ,"outputTokens":4)" + status,
          bare_with(R"(,"inputTokens": 0 ,"outputTokens":4)" + status + R"(,"totalTokens":4)"),
          "tokens_filled"},
         {"mismatch", status + R"(,"inputTokens":3,"outputTokens":4,"totalTokens":8)", "=",
          "total_mismatch"},
         {"sum beyond 32 bits", status + R"(,"inputTokens":2147483647,"outputTokens":1)",
          "bad_tokens totalTokens", ""},
         {"output wrong", R"(,"outputTokens":-1)", "bad_tokens outputTokens", ""},
         {"total wrong", R"(,"totalTokens":"3")", "bad_tokens totalTokens", ""}},
        bare_with);
}

TEST_CASE("parse/event_parser: status is spelled or filled, errorCode becomes a string") {
    const std::string tokens = R"(,"inputTokens":0,"outputTokens":0,"totalTokens":0)";
    const auto bare = [&](const std::string& members) { return bare_with(tokens + members); };
    check_cases(
        {{"success", tokens + R"(,"status":"success")", "=", ""},
         {"error", tokens + R"(,"status":"error")", "=", ""},
         {"escaped but right", tokens + R"(,"status":"\u0065rror")", "=", ""},
         {"upper case", tokens + R"(,"status":"ERROR")", bare(R"(,"status":"error")"),
          "status_spelled"},
         {"spaces", tokens + R"(,"status":" success\t")", bare(R"(,"status":"success")"),
          "status_spelled"},
         {"another word", tokens + R"(,"status":"ok")", "bad_status status", ""},
         {"empty", tokens + R"(,"status":"")", "bad_status status", ""},
         {"longer word", tokens + R"(,"status":"successful")", "bad_status status", ""},
         {"number", tokens + R"(,"status":1)", "bad_status status", ""},
         {"absent", tokens, bare(R"(,"status":"success")"), "status_filled"},
         {"null", tokens + R"(,"status":null)", bare(R"(,"status":"success")"), "status_filled"},
         {"absent with errorCode", tokens + R"(,"errorCode":"x")",
          bare(R"(,"errorCode":"x","status":"error")"), "status_filled"},
         {"absent with null errorCode", tokens + R"(,"errorCode":null)",
          bare(R"(,"errorCode":null,"status":"success")"), "status_filled"},
         {"absent with empty errorCode", tokens + R"(,"errorCode":"")",
          bare(R"(,"errorCode":"","status":"success")"), "status_filled"},
         {"integer errorCode", tokens + R"(,"errorCode":-3)",
          bare(R"(,"errorCode":"-3","status":"error")"), "status_filled error_code_to_string"},
         {"fraction as errorCode", tokens + R"(,"errorCode":4.5)", "bad_type errorCode", ""},
         {"boolean as errorCode", tokens + R"(,"errorCode":true)", "bad_type errorCode", ""}},
        bare_with);
}

TEST_CASE("parse/event_parser: latency is rounded, enums are spelled, texts have a limit") {
    const std::string longest(256, 'x');
    check_cases(
        {{"whole latency", R"(,"latencyMs":12)", "=", ""},
         {"half rounds up", R"(,"latencyMs":12.5)", event_with(R"(,"latencyMs":13)"),
          "latency_rounded"},
         {"below half rounds down", R"(,"latencyMs":12.4999999999999999999)",
          event_with(R"(,"latencyMs":12)"), "latency_rounded"},
         {"small fraction", R"(,"latencyMs":1e-9)", event_with(R"(,"latencyMs":0)"),
          "latency_rounded"},
         {"half a millisecond", R"(,"latencyMs":0.5)", event_with(R"(,"latencyMs":1)"),
          "latency_rounded"},
         {"exponent", R"(,"latencyMs":1.5e3)", event_with(R"(,"latencyMs":1500)"),
          "latency_rounded"},
         {"largest", R"(,"latencyMs":9223372036854775807)", "=", ""},
         {"beyond 63 bits", R"(,"latencyMs":9223372036854775808)", "bad_type latencyMs", ""},
         {"beyond any integer", R"(,"latencyMs":1e400)", "bad_type latencyMs", ""},
         {"negative latency", R"(,"latencyMs":-0.1)", "bad_type latencyMs", ""},
         {"text latency", R"(,"latencyMs":"12")", "bad_type latencyMs", ""},
         {"null latency", R"(,"latencyMs":null)", "=", ""},
         {"dataMode", R"(,"dataMode":"demo")", "=", ""},
         {"dataMode spelled", R"(,"dataMode":" Demo")", event_with(R"(,"dataMode":"demo")"),
          "enum_spelled"},
         {"dataMode unknown", R"(,"dataMode":"prod")", "bad_enum dataMode", ""},
         {"dataMode number", R"(,"dataMode":0)", "bad_enum dataMode", ""},
         {"environment spelled", R"(,"environment":"STAGING")",
          event_with(R"(,"environment":"staging")"), "enum_spelled"},
         {"environment unknown", R"(,"environment":"production")", "bad_enum environment", ""},
         {"environment null", R"(,"environment":null)", "=", ""},
         {"longest tag", R"(,"endpointTag":")" + longest + '"', "=", ""},
         {"empty tag", R"(,"featureTag":"")", "=", ""},
         {"tag too long", R"(,"endpointTag":"x)" + longest + '"', "bad_type endpointTag", ""},
         {"promptVersion number", R"(,"promptVersion":3)", "bad_type promptVersion", ""},
         {"userId number", R"(,"userId":3)", "bad_type userId", ""},
         {"tenantId array", R"(,"tenantId":[])", "bad_type tenantId", ""},
         {"featureTag boolean", R"(,"featureTag":false)", "bad_type featureTag", ""},
         {"metadata of scalars", R"(,"metadata":{"a":"b","c":1.50,"d":true,"e":null})", "=", ""},
         {"empty metadata", R"(,"metadata":{})", "=", ""},
         {"metadata with the same key twice", R"(,"metadata":{"a":1,"a":2})", "=", ""},
         {"metadata with an array", R"(,"metadata":{"a":[]})", "bad_type metadata", ""},
         {"metadata with an object", R"(,"metadata":{"a":{}})", "bad_type metadata", ""},
         {"metadata text", R"(,"metadata":"a")", "bad_type metadata", ""},
         {"metadata array", R"(,"metadata":[])", "bad_type metadata", ""}},
        event_with);
}

TEST_CASE("parse/event_parser: a createdAt that is not ISO 8601 is removed and stamped again") {
    const std::string around =
        R"({"externalRequestId":"i","provider":"p","model":"m","inputTokens":1,)"
        R"("outputTokens":2,"totalTokens":3,"status":"success")";
    const auto stamped = around + std::string(kStamp) + "}";
    const char* const removed = "created_at_removed created_at_stamped";
    check_cases({{"milliseconds", R"("2026-03-14T09:26:53.120Z")", "=", ""},
                 {"offset", R"("2026-03-14T09:26:53+05:30")", "=", ""},
                 {"text", R"("now")", stamped, removed},
                 {"epoch seconds", "1777777777", stamped, removed},
                 {"object with the key again", R"({"createdAt":"2026-03-14"})", stamped, removed},
                 {"array", "[ 1 , 2 ]", stamped, removed},
                 {"text with escapes", R"("a\"b\\")", stamped, removed},
                 {"boolean", "false", stamped, removed}},
                with_created_at);

    ParserFixture fixture;
    const auto null = with_created_at("null");
    CHECK(fixture.outcome(null) == with_created_at(R"("2026-05-04T03:02:01.007Z")"));
    CHECK(fixture.repairs() == "created_at_stamped");
    CHECK(fixture.outcome(around + "}") == stamped);

    ParserFixture plain(Options{.stamp_created_at = false});
    CHECK(plain.outcome(null) == null);
    CHECK(plain.outcome(with_created_at("1")) == around + "}");
    CHECK(plain.repairs() == "created_at_removed");
}

TEST_CASE("parse/event_parser: the first wrong field in the order of the table is reported") {
    ParserFixture fixture;
    CHECK(
        fixture.outcome(R"({"metadata":1,"status":"x","inputTokens":-1,"externalRequestId":""})") ==
        "bad_id externalRequestId");
    CHECK(fixture.parser.rejection().message == "must have 1 to 256 bytes");
}

TEST_CASE("parse/event_parser: a rejection names what is recognised and clean, no payload") {
    ParserFixture fixture;
    const std::string secret = "s3cret-value";
    REQUIRE_FALSE(
        fixture.parse(R"({"externalRequestId":"id-9","provider":" openai ","model":"m\u0007",)"
                      R"("status":"s3cret-value"})"));
    const auto& rejection = fixture.parser.rejection();
    CHECK_FALSE(rejection.payload.empty());
    CHECK(rejection.id == "id-9");
    CHECK(rejection.provider == "openai");
    CHECK(rejection.model.empty());  // a control character
    CHECK(rejection.message.find(secret) == std::string::npos);

    REQUIRE_FALSE(fixture.parse(R"({"externalRequestId":7,"provider":"p"})"));
    CHECK(fixture.parser.rejection().id == "7");
    REQUIRE_FALSE(
        fixture.parse(R"({"externalRequestId":"a","model":"m","externalRequestId":"b"})"));
    CHECK(fixture.parser.rejection().id.empty());  // which of the two?
    CHECK(fixture.parser.rejection().model == "m");
    REQUIRE_FALSE(fixture.parse(R"({"externalRequestId":"a","s3cret-value" 1})"));
    CHECK(fixture.parser.rejection().payload.empty());
    CHECK(fixture.parser.rejection().id.empty());
    CHECK(fixture.parser.rejection().message.find(secret) == std::string::npos);
}

TEST_CASE("parse/event_parser: the content hash is of what the app said") {
    ParserFixture fixture;
    const auto hash_of = [&](const std::string& bytes, WallTime received) {
        REQUIRE(fixture.parser.parse(bytes, received));
        return fixture.parser.event().content_hash;
    };
    const auto later = kReceived + hours{1};
    const std::string unstamped = R"({"externalRequestId":"i","provider":"p","model":"m"})";
    CHECK(hash_of(unstamped, kReceived) == hash_of(unstamped, later));
    const auto null = with_created_at("null");
    CHECK(hash_of(null, kReceived) == hash_of(null, later));
    CHECK(hash_of(event_with(""), kReceived) == hash_of(event_with(""), later));
    CHECK(hash_of(event_with(""), kReceived) != hash_of(event_with(" "), kReceived));
    CHECK(hash_of(event_with(""), kReceived) != hash_of(event_with(R"(,"x":1)"), kReceived));
    CHECK(hash_of(event_with("\n"), kReceived) == hash_of(event_with(" "), kReceived));
}

TEST_CASE("parse/event_parser: what the call was is told as it is forwarded") {
    Options options;
    options.model_aliases = {{"gpt-4o", "gpt-4-o"}};
    options.defaults.push_back({{Field::endpoint_tag, "of \"the\" listener"}});
    ParserFixture fixture(options);
    std::string bytes;  // the event looks into it
    const auto parse = [&fixture, &bytes](const std::string& members, std::uint8_t defaults = 0) {
        bytes = R"({"externalRequestId":"i")" + members + "}";
        REQUIRE(fixture.parser.parse(bytes, kReceived, defaults));
        return fixture.parser.event();
    };
    auto event = parse(R"(,"provider":" openai ","model":"gpt-4o","inputTokens":7.0,)"
                       R"("outputTokens":3,"status":"ERROR","endpointTag":"a\u0062c")");
    CHECK(event.provider == "openai");
    CHECK(event.model == "gpt-4-o");
    CHECK(event.endpoint_tag == "abc");
    CHECK(event.status == "error");
    CHECK(event.input_tokens == 7);
    CHECK(event.output_tokens == 3);
    event = parse(R"(,"provider":"p","model":"m","endpointTag":null)");
    CHECK(event.endpoint_tag.empty());
    CHECK(event.status == "success");
    CHECK(event.input_tokens == 0);
    CHECK(event.output_tokens == 0);
    event = parse(R"(,"provider":"p","model":"m","errorCode":"x",)"
                  R"("usage":{"prompt_tokens":11,"completion_tokens":5})",
                  1);
    CHECK(event.endpoint_tag == "of \"the\" listener");
    CHECK(event.status == "error");
    CHECK(event.input_tokens == 11);
    CHECK(event.output_tokens == 5);
    event = parse(R"(,"provider":"p","model":"m","endpointTag":"own")", 1);
    CHECK(event.endpoint_tag == "own");
}

}  // namespace opsrelay::parse
