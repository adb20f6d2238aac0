// Random events, all from printed seeds, and the golden samples.
#pragma once

#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <array>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/random.h"

namespace opsrelay::parse {

/// What Generator::private_event() hides in its strings.
inline constexpr std::string_view kSecret = "s3cret-";

/// Writes random JSON text with every spelling that JSON allows.
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
        return shuffled(std::move(members));
    }

    // An event that is full of what the privacy rules are about: every string below a denied key,
    // every userId and tenantId contains kSecret. `status` decides whether it is admissible.
    std::string private_event(const std::string& status) {
        std::vector<std::string> members{member("externalRequestId", text("id-")),
                                         member("provider", text("openai")),
                                         member("model", text("gpt-4o")),
                                         member("status", status),
                                         member("userId", secret()),
                                         member("tenantId", secret())};
        const auto denied = [this](int depth) {
            static const std::array<std::string, 6> kKeys{"prompt", "MESSAGES", "Content",
                                                          "text",   "output",   "completion"};
            return member(kKeys[rng_.between(0, 5)], secrets(depth));
        };
        members.push_back(denied(1));
        auto metadata = member("tenantId", secret()) + "," + denied(2) + "," +
                        member("userId", secret()) + "," + member("userId", secret());
        if (rng_.chance(500)) metadata += "," + member("a", "1");
        members.push_back(member("metadata", "{" + metadata + "}"));
        members.push_back(member("usage", "{" + denied(2) + R"(,"prompt_tokens":3})"));
        members.push_back(member("x", "[{" + denied(3) + "," + denied(3) + "},1]"));
        members.push_back(member("createdAt", "{" + denied(2) + "}"));
        return shuffled(std::move(members));
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
    std::string shuffled(std::vector<std::string> members) {
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
    std::string secret() {
        return '"' + std::string(kSecret) + std::to_string(rng_.next() % 100'000) + '"';
    }
    // A value that a denied key must lose.
    std::string secrets(int depth) {
        switch (rng_.between(0, 2)) {
            case 0: return secret();
            case 1: return "[" + value(depth + 1) + "," + space() + secret() + "]";
            default:
                return "{" + string("k") + ":" + secret() + space() + "," + string("prompt") + ":" +
                       (depth < 12 ? secrets(depth + 1) : secret()) + "}";
        }
    }
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

inline std::vector<std::string> golden_samples() {
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

}  // namespace opsrelay::parse
