// The parts of the event contract that are lists and maps, and the rules between them: they stand
// in the file only.
#pragma once

#include <string>
#include <string_view>

#include "config/config.h"
#include "config/yaml_reader.h"
#include "core/error.h"

namespace opsrelay::config {

inline constexpr std::size_t kDenyFieldsMax = 256;
inline constexpr std::size_t kModelAliasesMax = 1000;

/// privacy.deny_fields: a list of keys, none of them a field with a rule of its own.
/// Error (of all readers here): config_invalid with `file`:line:column.
[[nodiscard]] Result<void> read_deny_fields(Config& config, const YamlNode& node,
                                            std::string_view file);
/// events.model_aliases: a map from model name to model name, in one step.
[[nodiscard]] Result<void> read_model_aliases(Config& config, const YamlNode& node,
                                              std::string_view file);
/// listeners[i].defaults, `key` being its name: a map from field to text.
[[nodiscard]] Result<parse::Defaults> read_defaults(const YamlNode& node, std::string_view key,
                                                    std::string_view file);

/// The values as JSON, which is YAML too.
[[nodiscard]] std::string show_deny_fields(const Config& config);
[[nodiscard]] std::string show_model_aliases(const Config& config);
[[nodiscard]] std::string show_defaults(const parse::Defaults& defaults);

/// Reads privacy.hash_key_file when a rule needs it, and checks the listeners' defaults against
/// privacy.tenant_id. Error: config_invalid naming the file or the key.
[[nodiscard]] Result<void> settle_privacy(Config& config);

}  // namespace opsrelay::config
