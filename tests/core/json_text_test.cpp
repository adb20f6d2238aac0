#include "core/json_text.h"

#include <doctest/doctest.h>

namespace opsrelay {

TEST_CASE("core/json_text: what would break a string or a line is escaped, the rest stays") {
    using namespace std::string_view_literals;
    struct Case {
        const char* name;
        std::string_view text;
        const char* json;
    };
    const Case cases[] = {
        {"empty", "", R"("")"},
        {"plain", "a b", R"("a b")"},
        {"quote and backslash", R"(say "c:\")", R"("say \"c:\\\"")"},
        {"newline, NUL and DEL", "\n\0\x7f"sv, R"("\u000a\u0000\u007f")"},
        {"UTF-8", "\xc3\xa4", "\"\xc3\xa4\""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(json_string(test.text) == test.json);
    }
}

}  // namespace opsrelay
