// The scanner against RapidJSON: what it takes, RapidJSON takes too and says the same about.
#include "parse/scanner.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "parse/generator.h"
#include "parse/json_reader.h"
#include "parse/outlines.h"
#include "parse/parser_fixture.h"

#if defined(__SANITIZE_ADDRESS__)
#define OPSRELAY_TEST_CASES 30'000
#else
#define OPSRELAY_TEST_CASES 300'000
#endif

namespace opsrelay::parse {

namespace {

Guard guard() { return {KeySet(Privacy{}.deny_fields), true, true}; }

// Both twins and the reference, over and over with the same memory.
class Differential {
public:
    // True when the scanner took the text.
    bool check(const std::string& bytes) {
        CAPTURE(bytes);
        // A copy of exactly this size, so that the sanitizer sees a read beyond the end.
        const std::vector<char> exact(bytes.begin(), bytes.end());
        const std::string_view text(exact.data(), exact.size());
        fast_.reset();
        portable_.reset();
        const auto scanned = scan(text, fast_);
        const auto portably = scan_portably(text, portable_);
        CHECK(scanned.taken == portably.taken);
        if (!scanned.taken) return false;
        CHECK(scanned.newlines == portably.newlines);
        fast_.finish();
        portable_.finish();
        const auto failure = reference_.read_reference(text);
        REQUIRE_FALSE(failure.has_value());
        CHECK(scanned.newlines == reference_.newlines());
        CHECK(difference(text, fast_, reference_.outline()) == "");
        CHECK(difference(text, portable_, reference_.outline()) == "");
        return true;
    }

private:
    Outline fast_{guard(), 16};
    Outline portable_{guard(), 16};
    JsonReader reference_{guard(), 16};
};

}  // namespace

TEST_CASE("parse/scanner: the usual shapes are taken, the unusual ones are left") {
    Differential differential;
    struct Case {
        std::string name;
        std::string text;
        bool taken;
    };
    const auto with = [](const std::string& members) { return event_with("," + members); };
    const Case cases[] = {
        {"an event", event_with(""), true},
        {"metadata", with(R"("metadata":{"a":"b","c":-1.50,"d":true,"e":null,"f":false})"), true},
        {"lists", with(R"("x":[[1,"2"],{"a":[]},{}])"), true},
        {"spaces", " \t{ \"a\" :\t1 , \"b\" : [ 1 , 2 ] , \"c\" : { } } \n", true},
        {"newlines", "{\r\n\"a\":1\n}", true},
        {"not ASCII", with("\"größe\":\"\u20ac\U0001F600\""), true},
        {"long strings", with("\"x\":\"" + std::string(1000, 'x') + "\u00e9y\""), true},
        {"many digits", with("\"x\":" + std::string(400, '7') + ".0"), true},
        {"nothing", "{}", true},
        {"a key twice", with(R"("model":"m","x":1,"x":2)"), true},
        {"as deep as it goes", "{\"a\":[[[[[[[]]]]]]]}", true},
        {"deeper", "{\"a\":[[[[[[[[]]]]]]]]}", false},
        {"an escape", with(R"("x":"a\/b")"), false},
        {"an escape in a key", with(R"("\u0078":1)"), false},
        {"an exponent", with(R"("x":1e5)"), false},
        {"invalid UTF-8", with("\"x\":\"\xC3\""), false},
        {"control character", with("\"x\":\"a\tb\""), false},
        {"no text", "", false},
        {"spaces only", " \n", false},
        {"half an event", event_with("").substr(0, 100), false},
        {"an open inner object", "{\"a\":{\"b\":1}", false},
        {"an open string", "{\"a\":\"}", false},
        {"more behind", event_with("") + "{}", false},
        {"NUL behind", event_with("") + std::string(1, '\0') + "}", false},
        {"an array", "[{}]", false},
        {"one brace", "}", false},
        {"leading zero", "{\"a\":01}", false},
        {"minus alone", "{\"a\":-}", false},
        {"point alone", "{\"a\":1.}", false},
        {"half a word", "{\"a\":nul}", false},
        {"words run together", "{\"a\":truefalse}", false},
        {"no colon", "{\"a\"}", false},
        {"no value", "{\"a\":}", false},
        {"trailing comma", "{\"a\":1,}", false},
        {"trailing comma in a list", "{\"a\":[1,]}", false},
        {"brackets that do not match", "{\"a\":[1}]}", false},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(differential.check(test.text) == test.taken);
    }
    for (std::size_t length = 0; length < 40; ++length) {  // across the blocks of both twins
        for (const auto* const end : {"\"}", "\\n\"}", "\u00e9\"}", "\x01\"}", "\xFF\"}", "}"}) {
            const auto good = *end == '"' || *end == '\xC3';
            CHECK(differential.check("{\"k\":\"" + std::string(length, 'x') + end) == good);
        }
    }
}

TEST_CASE("parse/scanner: what it takes, RapidJSON takes and says the same about") {
    Differential differential;
    const auto samples = golden_samples();
    std::size_t taken = 0;
    for (const auto& sample : samples) taken += differential.check(sample) ? 1 : 0;
    CHECK(taken > samples.size() / 2);
    taken = 0;
    std::size_t left = 0;
    for (std::uint64_t seed = 1; seed <= OPSRELAY_TEST_CASES; ++seed) {
        CAPTURE(seed);
        Generator generator(seed);
        std::string bytes;
        switch (seed % 6) {
            case 0: bytes = generator.clean_event(); break;
            case 1: bytes = generator.private_event("null"); break;
            case 2: bytes = generator.mutated(generator.private_event("1")); break;
            default: bytes = generator.mutated(samples[seed % samples.size()]); break;
        }
        (differential.check(bytes) ? taken : left) += 1;
    }
    CHECK(taken > OPSRELAY_TEST_CASES / 20);
    CHECK(left > OPSRELAY_TEST_CASES / 20);
}

}  // namespace opsrelay::parse
