// The table of all keys: how each is read and shown. Only listeners are apart, in listeners.h.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/upstream_keys.h"
#include "config/yaml_reader.h"
#include "core/enum_table.h"
#include "core/error.h"

namespace opsrelay::config {

/// What a changed value needs to take effect.
enum class Change : std::uint8_t {
    live,    // a reload
    restart  // a restart; a reload refuses it
};

/// A key of the file; the variable of `spool.max_bytes` is OPSRELAY_SPOOL__MAX_BYTES.
struct Key {
    std::string_view name;
    bool nullable;  // an empty text or YAML null means "not set"
    bool quoted;    // shown as a string, else as it is
    Change change;
    Result<void> (*set)(Config& config, std::string_view key, std::string_view text);
    std::string (*show)(const Config& config);
    /// Of a list or map, which has no `set`: it stands in the file only, and `show` gives JSON.
    Result<void> (*read)(Config& config, const YamlNode& node, std::string_view file) = nullptr;
    /// Of `upstream`, which is short for the lane `default`; it has none of the three above.
    const UpstreamKey* upstream = nullptr;

    /// Sets a key that is neither list nor map. Error: config_invalid, beginning with the name.
    [[nodiscard]] Result<void> assign(Config& config, std::string_view text) const;
};

/// Every key, in the order in which the configuration is shown.
[[nodiscard]] std::span<const Key> keys();
/// The key of that name, or nullptr.
[[nodiscard]] const Key* find_key(std::string_view name);
/// "unknown key; did you mean ...?", or the names that are known there.
[[nodiscard]] std::string unknown_key(std::string_view name,
                                      std::span<const std::string_view> candidates);
/// Names of all keys.
[[nodiscard]] std::vector<std::string_view> key_names();
/// OPSRELAY_SPOOL__MAX_BYTES for spool.max_bytes.
[[nodiscard]] std::string variable_name(std::string_view key);

/// Names of the log formats and levels.
inline constexpr std::array<EnumName<log::Format>, 3> kLogFormats{{
    {log::Format::automatic, "auto"},
    {log::Format::logfmt, "logfmt"},
    {log::Format::json, "json"},
}};
static_assert(dense(kLogFormats));
inline constexpr std::array<EnumName<log::Level>, 4> kLogLevels{{
    {log::Level::debug, "debug"},
    {log::Level::info, "info"},
    {log::Level::warn, "warn"},
    {log::Level::error, "error"},
}};
static_assert(dense(kLogLevels));
/// Names of what may happen to an event without an id.
inline constexpr std::array<EnumName<parse::MissingId>, 2> kMissingIds{{
    {parse::MissingId::mint, "mint"},
    {parse::MissingId::reject, "reject"},
}};
static_assert(dense(kMissingIds));
/// Names of what may become of an identity.
inline constexpr std::array<EnumName<parse::IdentityRule>, 3> kIdentityRules{{
    {parse::IdentityRule::pass, "pass"},
    {parse::IdentityRule::hash, "hash"},
    {parse::IdentityRule::drop, "drop"},
}};
static_assert(dense(kIdentityRules));

}  // namespace opsrelay::config
