// The table of all switches: `--set`, POST /control, GET /control, --help and README.md come from
// it or are compared with it.
#pragma once

#include <rapidjson/document.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/enum_table.h"
#include "core/error.h"
#include "upstream/settings.h"

namespace opsrelay::upstream {

/// How the default of a switch is known to be what the real service does.
enum class Evidence : std::uint8_t {
    documented,
    observed,  // in official clients, not promised by the service
    inferred,
    unknown,  // the default is a guess
    tool,     // no behaviour of the service: a handle for tests
};
inline constexpr std::array<EnumName<Evidence>, 5> kEvidences{{
    {Evidence::documented, "documented"},
    {Evidence::observed, "observed"},
    {Evidence::inferred, "inferred"},
    {Evidence::unknown, "unknown"},
    {Evidence::tool, "tool"},
}};
static_assert(dense(kEvidences));
constexpr std::string_view to_string(Evidence e) { return kEvidences.at(index_of(e)).name; }

struct Switch {
    std::string_view key;  // dots lead into objects
    Evidence evidence;
    std::string_view meaning;
    std::string (*allowed)();                                       // for humans
    std::string (*show)(const Behaviour& behaviour);                // as JSON
    bool (*set)(Behaviour& behaviour, const rapidjson::Value& to);  // false: not allowed
};

/// In the order in which they are shown; keys of one object are neighbours.
[[nodiscard]] std::span<const Switch> switches();
/// Their keys, in the same order.
[[nodiscard]] std::vector<std::string_view> switch_keys();
/// nullptr: no such key.
[[nodiscard]] const Switch* find_switch(std::string_view key);
/// Errors name key, value and what is allowed.
[[nodiscard]] Result<void> set_switch(Behaviour& behaviour, const Switch& which,
                                      const rapidjson::Value& value);
/// "plan.limit=3", as `--set` takes it. The value is JSON; what is not is a string.
[[nodiscard]] Result<void> set_switch(Behaviour& behaviour, std::string_view assignment);

}  // namespace opsrelay::upstream
