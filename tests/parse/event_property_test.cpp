// Random events, all from printed seeds: what needs no repair comes out byte for byte, and whatever
// is accepted is accepted again without a further repair.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <array>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "parse/parser_fixture.h"

namespace opsrelay::parse {

namespace {

// Writes random JSON text with every spelling that JSON allows.
class Generator {
public:
    explicit Generator(std::uint64_t seed) : rng_(seed) {}

    // An event that needs no repair: known fields in random order among unknown ones.
    std::string clean_event() {
        std::vector<std::string> members{
            member("externalRequestId", text("id-")),
            member("provider", text("openai")),
            member("model", text("gpt-4o")),
            member("inputTokens", std::to_string(rng_.between(0, 1000))),
            member("outputTokens", std::to_string(rng_.between(0, 1000))),
            member("totalTokens", std::to_string(rng_.between(0, 2147483647))),
            member("status", rng_.chance(500) ? "\"success\"" : "\"error\""),
            member("createdAt",
                   rng_.chance(500) ? "\"2026-05-01\"" : "\"2026-05-01T10:00:00.5Z\"")};
        const std::array<std::string, 6> optional{
            member("latencyMs", "12"),      member("errorCode", "null"),
            member("dataMode", "\"test\""), member("environment", "null"),
            member("tenantId", text("t")),  member("metadata", R"({"a":1.0,"b":"\n","c":null})")};
        for (const auto& one : optional) {
            if (rng_.chance(500)) members.push_back(one);
        }
        for (auto unknown = rng_.between(0, 20); unknown > 0; --unknown) {
            members.push_back(member("u" + std::to_string(unknown), value(1)));
        }
        for (auto i = members.size(); i > 1; --i) {
            std::swap(members[i - 1], members[rng_.between(0, i - 1)]);
        }
        std::string event = space() + "{";
        for (std::size_t i = 0; i < members.size(); ++i) {
            if (i > 0) event += ",";
            event += members[i];
        }
        return event + "}" + space();
    }

    // Changes a few bytes: overwritten, inserted, removed or copied from elsewhere.
    std::string mutated(std::string bytes) {
        for (auto changes = rng_.between(1, 4); changes > 0 && !bytes.empty(); --changes) {
            const auto at = rng_.between(0, bytes.size() - 1);
            const auto length = rng_.between(1, 8);
            switch (rng_.between(0, 4)) {
                case 0: bytes[at] = static_cast<char>(rng_.between(0, 255)); break;
                case 1: bytes.insert(at, 1, interesting()); break;
                case 2: bytes.erase(at, length); break;
                case 3: bytes[at] = interesting(); break;
                case 4:
                    bytes.insert(rng_.between(0, bytes.size()), bytes.substr(at, length));
                    break;
            }
        }
        return bytes;
    }

private:
    char interesting() {
        constexpr std::string_view kBytes = "\"\\{}[]:,0123456789.eE+- \n\rtfnu\0\x7f\xc3\xed\xff";
        return kBytes[rng_.between(0, kBytes.size() - 1)];
    }
    // No newline: that one is not kept as it is.
    std::string space() {
        return std::array<std::string, 6>{"", "", "", " ", "\t", "  "}[rng_.between(0, 5)];
    }
    std::string member(const std::string& key, const std::string& json) {
        return space() + string(key) + space() + ":" + space() + json + space();
    }
    std::string text(const std::string& start) {
        return string(start + std::to_string(rng_.next() % 100'000));
    }
    // A JSON string of this ASCII text, some characters escaped.
    std::string string(const std::string& ascii) {
        constexpr std::string_view kHex = "0123456789aBcDeF";
        std::string json = "\"";
        for (const auto c : ascii) {
            const auto byte = static_cast<unsigned char>(c);
            if (rng_.chance(950)) {
                json += c;
            } else {
                json += "\\u00";
                json += kHex[byte >> 4U];
                json += kHex[byte & 0x0FU];
            }
        }
        return json + "\"";
    }
    std::string value(int depth) {
        const std::array<std::string, 16> scalars{"null",
                                                  "true",
                                                  "false",
                                                  "0",
                                                  "-0",
                                                  "0.10",
                                                  "1E+05",
                                                  "-1e-400",
                                                  "1e400",
                                                  R"("")",
                                                  R"("\"\\\/\b\f\n\r\t")",
                                                  "\"\u00e9\u20ac\U0001F600\"",
                                                  R"("\ud83d\uDE00")",
                                                  R"("\u0000")",
                                                  "\"\x7f\"",
                                                  "123456789012345678901234567890"};
        const auto kind = rng_.between(0, depth < 15 ? 19 : 15);
        if (kind < scalars.size()) return scalars[kind];
        const auto object = kind % 2 == 0;
        std::string json = object ? "{" : "[";
        for (auto count = rng_.between(0, 3); count > 0; --count) {
            json += space() + (object ? string("k") + ":" : std::string{}) + value(depth + 1);
            if (count > 1) json += ",";
        }
        return json + space() + (object ? "}" : "]");
    }

    Xoshiro rng_;
};

std::vector<std::string> golden_samples() {
    const auto folder = std::string(OPSRELAY_SOURCE_DIR) + "/proto/golden/";
    const auto slurp = [](const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        REQUIRE_MESSAGE(file.good(), path);
        return std::string{std::istreambuf_iterator<char>(file), {}};
    };
    rapidjson::Document outcomes;
    const auto text = slurp(folder + "outcomes.json");
    outcomes.Parse(text.data(), text.size());
    REQUIRE_FALSE(outcomes.HasParseError());
    std::vector<std::string> samples;
    for (const auto& test : outcomes["cases"].GetArray()) {
        samples.push_back(slurp(folder + test["file"].GetString()));
    }
    return samples;
}

constexpr std::uint32_t bit(Repair repair) { return 1U << index_of(repair); }

// Offers what came out once more: nothing but the counted mismatch may be found.
void check_settled(EventParser& parser, const Event& event) {
    const std::string json(event.json);
    const std::string id(event.id);
    CHECK(json.find('\n') == std::string::npos);
    REQUIRE(parser.parse(json, kReceived + hours{1}));
    CHECK(parser.event().json == json);
    CHECK(parser.event().id == id);
    CHECK((parser.event().repairs & ~bit(Repair::total_mismatch)) == 0U);
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
        REQUIRE((fixture.parser.event().repairs & ~bit(Repair::total_mismatch)) == 0U);
    }
}

TEST_CASE("parse/property: damaged events never crash, and what is accepted needs no more repair") {
    ParserFixture fixture;
    ParserFixture again;
    const auto samples = golden_samples();
    std::size_t accepted = 0;
    std::size_t rejected = 0;
    for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
        CAPTURE(seed);
        Generator generator(seed);
        const auto bytes = seed % 4 == 0 ? generator.mutated(generator.clean_event())
                                         : generator.mutated(samples[seed % samples.size()]);
        // A copy of exactly this size, so that the sanitizer sees a read beyond the end.
        const std::vector<char> exact(bytes.begin(), bytes.end());
        if (fixture.parse({exact.data(), exact.size()})) {
            ++accepted;
            check_settled(again.parser, fixture.parser.event());
        } else {
            ++rejected;
            CHECK_FALSE(fixture.parser.rejection().message.empty());
        }
    }
    CHECK(accepted > 1000);  // the mutations are neither all harmless nor all fatal
    CHECK(rejected > 1000);
}

}  // namespace opsrelay::parse
