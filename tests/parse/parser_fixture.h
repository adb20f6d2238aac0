// An EventParser with a fixed seed and receive time, and events to give to it.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "core/random.h"
#include "parse/event_parser.h"

namespace opsrelay::parse {

/// 2026-05-04T03:02:01.007Z.
inline constexpr WallTime kReceived{milliseconds{1'777'863'721'007}};
inline constexpr std::string_view kStamp = R"(,"createdAt":"2026-05-04T03:02:01.007Z")";

struct ParserFixture {
    explicit ParserFixture(Options options = {}) : parser(options, rng) {}

    bool parse(std::string_view bytes) { return parser.parse(bytes, kReceived); }
    /// The stored form, or "reason field" of the rejection.
    std::string outcome(std::string_view bytes) {
        if (parse(bytes)) return std::string(parser.event().json);
        const auto& rejection = parser.rejection();
        auto text = std::string(to_string(rejection.reason));
        if (!rejection.field.empty()) text.append(" ").append(rejection.field);
        return text;
    }
    /// "a b": the repairs of the last event, in the order of the table.
    [[nodiscard]] std::string repairs() const {
        std::string names;
        for (const auto& row : kRepairs) {
            if ((parser.event().repairs >> index_of(row.value) & 1U) == 0) continue;
            if (!names.empty()) names.push_back(' ');
            names.append(row.name);
        }
        return names;
    }

    Xoshiro rng{7};
    EventParser parser;
};

/// An event that needs no repair, with `members` (beginning with a comma) behind the usual ones.
inline std::string event_with(std::string_view members) {
    return R"({"externalRequestId":"id-1","provider":"openai","model":"m","inputTokens":1,)"
           R"("outputTokens":2,"totalTokens":3,"status":"success","createdAt":"2026-05-01")" +
           std::string(members) + "}";
}

/// An event that has only the required members and `members` (beginning with a comma), with a
/// createdAt so that nothing depends on the receive time.
inline std::string bare_with(std::string_view members) {
    return R"({"externalRequestId":"id-1","provider":"openai","model":"m",)"
           R"("createdAt":"2026-05-01")" +
           std::string(members) + "}";
}

}  // namespace opsrelay::parse
