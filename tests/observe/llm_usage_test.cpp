#include "observe/llm_usage.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "observe/metrics.h"

namespace opsrelay::observe {

TEST_CASE("observe/llm_usage: calls and tokens are counted by provider, model, tag and status") {
    Registry registry;
    auto& usage = registry.llm_usage();
    auto& chat = usage.of({"openai", "gpt-4o", "chat", "success"});
    LlmCall{&chat, 10, 3}.count();
    LlmCall{&usage.of({"openai", "gpt-4o", "chat", "success"}), 5, 0}.count();
    LlmCall{&usage.of({"openai", "gpt-4o", "chat", "error"}), 1, 0}.count();
    LlmCall{&usage.of({"openai", "gpt-4o", "", "success"}), 7, 7}.count();
    LlmCall{}.count();  // nothing to count
    CHECK(&usage.of({"openai", "gpt-4o", "chat", "success"}) == &chat);
    const auto text = registry.exposition();
    const auto has = [&text](const std::string& line) {
        return text.find("\n" + line + "\n") != std::string::npos;
    };
    const std::string labels = R"({provider="openai",model="gpt-4o",endpoint_tag=)";
    CHECK(has("opsrelay_llm_requests_total" + labels + R"("chat",status="success"} 2)"));
    CHECK(has("opsrelay_llm_input_tokens_total" + labels + R"("chat",status="success"} 15)"));
    CHECK(has("opsrelay_llm_output_tokens_total" + labels + R"("chat",status="success"} 3)"));
    CHECK(has("opsrelay_llm_requests_total" + labels + R"("chat",status="error"} 1)"));
    CHECK(has("opsrelay_llm_output_tokens_total" + labels + R"("",status="success"} 7)"));
}

TEST_CASE("observe/llm_usage: values that are hostile or long count as other") {
    LlmUsage usage;
    const std::string longest(LlmUsage::kLabelBytesMax, 'm');
    CHECK(usage.of({"p", longest, "", "success"}).model == longest);
    CHECK(usage.of({"p", longest + "m", "", "success"}).model == "other");
    CHECK(usage.of({"p", "m", "a\nb", "success"}).endpoint_tag == "other");
    CHECK(usage.of({std::string_view("p\0", 2), "m", "", "success"}).provider == "other");
    CHECK(usage.of({"q\"{}\\", "m", "", "success"}).provider == "q\"{}\\");
    // Parts that run together differ all the same.
    CHECK(&usage.of({"ab", "c", "", "success"}) != &usage.of({"a", "bc", "", "success"}));
}

TEST_CASE("observe/llm_usage: the number of series is bounded; tags give way before models do") {
    LlmUsage usage;
    std::set<const LlmSeries*> all;
    for (std::size_t i = 0; i < LlmUsage::kSeriesWithTags; ++i) {
        all.insert(&usage.of({"p", "m", std::to_string(i), "success"}));
    }
    CHECK(all.size() == LlmUsage::kSeriesWithTags);
    auto& late = usage.of({"p", "m", "late", "success"});
    CHECK(late.endpoint_tag == "other");
    CHECK(late.model == "m");
    CHECK(&usage.of({"p", "m", "later", "success"}) == &late);
    CHECK(usage.of({"p", "m", "7", "success"}).endpoint_tag == "7");  // as before
    all.insert(&late);
    for (std::size_t i = 0; all.size() < LlmUsage::kSeriesMax; ++i) {
        auto& series = usage.of({"p", "m" + std::to_string(i), "tag", "success"});
        CHECK(series.endpoint_tag == "other");
        CHECK(all.insert(&series).second);
    }
    for (const std::string status : {"success", "error"}) {
        for (unsigned i = 0; i < 1'000; ++i) {
            auto& rest = usage.of({"new" + std::to_string(i), "x", "t", status});
            all.insert(&rest);
            REQUIRE(rest.provider == "other");
            REQUIRE(rest.model == "other");
            REQUIRE(rest.status == status);
        }
    }
    CHECK(all.size() == LlmUsage::kSeriesMax + 2);
    std::size_t shown = 0;
    usage.each([&shown](const LlmSeries&) { ++shown; });
    CHECK(shown == all.size());
}

}  // namespace opsrelay::observe
