#include "parse/usage.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "parse/parser_fixture.h"

namespace opsrelay::parse {

namespace {

const std::string kStatus = R"(,"status":"success")";
const std::string kBadCount = "must be an integer from 0 to 2147483647";

// Counts that are filled in behind `kept`, what remains of the members.
std::string filled(const std::string& kept, int input, int output, int total) {
    return bare_with(kStatus + kept + R"(,"inputTokens":)" + std::to_string(input) +
                     R"(,"outputTokens":)" + std::to_string(output) + R"(,"totalTokens":)" +
                     std::to_string(total));
}

struct UsageCase {
    std::string name;
    std::string members;
    std::string expected;
    const char* repairs;
};

void check_cases(const std::vector<UsageCase>& cases) {
    ParserFixture fixture;
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto bytes = bare_with(kStatus + test.members);
        CHECK(fixture.outcome(bytes) == (test.expected == "=" ? bytes : test.expected));
        if (fixture.parse(bytes)) CHECK(fixture.repairs() == test.repairs);
    }
}

}  // namespace

TEST_CASE("parse/usage: each provider's usage object gives the counts that are absent") {
    check_cases({
        {"OpenAI chat",
         R"(,"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,)"
         R"("prompt_tokens_details":{"cached_tokens":4}})",
         filled("", 12, 3, 15), "tokens_from_usage"},
        {"OpenAI responses",
         R"(,"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":8},)"
         R"("output_tokens":4,"total_tokens":13})",
         filled("", 9, 4, 13), "tokens_from_usage"},
        {"OpenAI embeddings: no output", R"(,"usage":{"prompt_tokens":7,"total_tokens":7})",
         bare_with(kStatus + R"(,"inputTokens":7,"totalTokens":7,"outputTokens":0)"),
         "tokens_filled tokens_from_usage"},
        {"Anthropic: cache tokens are input",
         R"(,"usage":{"input_tokens":5,"cache_creation_input_tokens":100,)"
         R"("cache_read_input_tokens":20,"output_tokens":7,"service_tier":"standard"})",
         filled("", 125, 7, 132), "tokens_filled tokens_from_usage"},
        {"Anthropic: null cache tokens",
         R"(,"usage":{"input_tokens":5,"cache_creation_input_tokens":null,"output_tokens":7})",
         filled("", 5, 7, 12), "tokens_filled tokens_from_usage"},
        {"Gemini: thoughts are output, tool use is input",
         R"(,"usageMetadata":{"promptTokenCount":10,"toolUsePromptTokenCount":2,)"
         R"("candidatesTokenCount":3,"thoughtsTokenCount":40,"cachedContentTokenCount":6,)"
         R"("totalTokenCount":55})",
         filled("", 12, 43, 55), "tokens_from_usage"},
        {"Gemini: nothing but a prompt", R"(,"usageMetadata":{"promptTokenCount":10})",
         bare_with(kStatus + R"(,"inputTokens":10,"outputTokens":0,"totalTokens":10)"),
         "tokens_filled tokens_from_usage"},
        {"chat names win, they include the cache",
         R"(,"usage":{"prompt_tokens":50,"input_tokens":1,"cache_read_input_tokens":49,)"
         R"("completion_tokens":2,"output_tokens":2})",
         filled("", 50, 2, 52), "tokens_filled tokens_from_usage"},
        {"both objects: usage first, the other for what it lacks",
         R"(,"usage":{"prompt_tokens":1},"usageMetadata":{"promptTokenCount":9,)"
         R"("candidatesTokenCount":4})",
         filled("", 1, 4, 5), "tokens_filled tokens_from_usage"},
        {"other spellings of whole numbers",
         R"(,"usage":{"prompt_tokens":1.20e1,"completion_tokens":3.0})", filled("", 12, 3, 15),
         "tokens_filled tokens_from_usage"},
        {"a total that is not the sum",
         R"(,"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":9})",
         filled("", 1, 2, 9), "tokens_from_usage total_mismatch"},
    });
}

TEST_CASE("parse/usage: an object is used only where a count is absent, and left alone otherwise") {
    const std::string all = R"(,"inputTokens":1,"outputTokens":2,"totalTokens":3)";
    check_cases({
        {"nothing is absent", all + R"(,"usage":{"prompt_tokens":"x"})", "=", ""},
        {"what is there wins",
         R"(,"inputTokens":1,"usage":{"prompt_tokens":"x","completion_tokens":2})",
         bare_with(kStatus + R"(,"inputTokens":1,"outputTokens":2,"totalTokens":3)"),
         "tokens_filled tokens_from_usage"},
        {"null is absent",
         R"(,"inputTokens":null,"outputTokens":2,"totalTokens":9,"usage":{"input_tokens":7})",
         bare_with(kStatus + R"(,"inputTokens":7,"outputTokens":2,"totalTokens":9)"),
         "tokens_from_usage"},
        {"no known count in it", R"(,"usage":{"seconds":4})",
         filled(R"(,"usage":{"seconds":4})", 0, 0, 0), "tokens_filled"},
        {"only nulls in it", R"(,"usage":{"prompt_tokens":null})",
         filled(R"(,"usage":{"prompt_tokens":null})", 0, 0, 0), "tokens_filled"},
        {"no object", R"(,"usage":["prompt_tokens",1],"usageMetadata":4)",
         filled(R"(,"usage":["prompt_tokens",1],"usageMetadata":4)", 0, 0, 0), "tokens_filled"},
        {"names of another object", R"(,"usage":{"promptTokenCount":3})",
         filled(R"(,"usage":{"promptTokenCount":3})", 0, 0, 0), "tokens_filled"},
        {"one level down", R"(,"usage":{"details":{"prompt_tokens":3}})",
         filled(R"(,"usage":{"details":{"prompt_tokens":3}})", 0, 0, 0), "tokens_filled"},
        {"another case", R"(,"Usage":{"prompt_tokens":3})",
         filled(R"(,"Usage":{"prompt_tokens":3})", 0, 0, 0), "tokens_filled"},
    });
    ParserFixture fixture;
    const std::string first = R"({"usage":{"input_tokens":1,"output_tokens":2} , "provider":"p",)"
                              R"("model":"m","externalRequestId":"i","createdAt":"2026-05-01"})";
    CHECK(fixture.outcome(first) ==
          R"({ "provider":"p","model":"m","externalRequestId":"i","createdAt":"2026-05-01",)"
          R"("inputTokens":1,"outputTokens":2,"totalTokens":3,"status":"success"})");
}

TEST_CASE("parse/usage: a count that is needed and wrong is reported by its full name") {
    const auto usage = [](const char* members) {
        return R"(,"usage":{)" + std::string(members) + "}";
    };
    check_cases({
        {"text", usage(R"("prompt_tokens":"12")"), "bad_tokens usage.prompt_tokens", ""},
        {"negative", usage(R"("output_tokens":-1)"), "bad_tokens usage.output_tokens", ""},
        {"fraction", usage(R"("completion_tokens":1.5)"), "bad_tokens usage.completion_tokens", ""},
        {"too large", usage(R"("total_tokens":2147483648)"), "bad_tokens usage.total_tokens", ""},
        {"object", usage(R"("input_tokens":{})"), "bad_tokens usage.input_tokens", ""},
        {"cache part", usage(R"("input_tokens":1,"cache_read_input_tokens":true)"),
         "bad_tokens usage.cache_read_input_tokens", ""},
        {"sum of the parts", usage(R"("input_tokens":2147483647,"cache_read_input_tokens":1)"),
         "bad_tokens usage.cache_read_input_tokens", ""},
        {"Gemini", R"(,"usageMetadata":{"thoughtsTokenCount":[]})",
         "bad_tokens usageMetadata.thoughtsTokenCount", ""},
        {"twice", usage(R"("prompt_tokens":1,"prompt_tokens":2)"), "bad_tokens usage.prompt_tokens",
         ""},
        {"sum of input and output", usage(R"("input_tokens":2147483647,"output_tokens":1)"),
         "bad_tokens totalTokens", ""},
        {"the object twice", usage(R"("input_tokens":1)") + usage(R"("input_tokens":1)"),
         "duplicate_key usage", ""},
    });
    ParserFixture fixture;
    REQUIRE_FALSE(fixture.parse(bare_with(usage(R"("prompt_tokens":"12")"))));
    CHECK(fixture.parser.rejection().message == kBadCount);
}

}  // namespace opsrelay::parse
