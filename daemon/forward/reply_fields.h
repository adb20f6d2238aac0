// The members of a reply's JSON object that the forwarder acts upon.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace opsrelay::forward {

/// Members of the outermost object; unset: absent, or of another type. Of a repeated one the first
/// counts.
struct ReplyFields {
    std::optional<bool> ok;
    std::optional<bool> telemetry_paused;
    std::optional<bool> plan_limit_reached;
    std::optional<bool> budget_warning;
    std::optional<bool> budget_exceeded;
    std::optional<std::string> reason;
    std::optional<std::string> plan_tier;

    bool operator==(const ReplyFields&) const = default;
};

/// nullopt: the body is not one JSON object in UTF-8.
[[nodiscard]] std::optional<ReplyFields> read_fields(std::string_view body);

/// The two ways read_fields() goes; declared for the test that compares them.
///
/// The reply to nearly every event in one pass without the heap: printable ASCII without escapes,
/// shallow, short numbers. nullopt: not such a body, whatever else it is.
[[nodiscard]] std::optional<ReplyFields> scan_fields(std::string_view body);
/// The reference: RapidJSON.
[[nodiscard]] std::optional<ReplyFields> parse_fields(std::string_view body);

}  // namespace opsrelay::forward
