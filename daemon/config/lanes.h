// The lanes: what holds for the settings of each, and between them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/yaml_reader.h"
#include "core/error.h"

namespace opsrelay::config {

/// How a setting of a lane is called in messages: "upstream.url", "lanes.europe.url".
[[nodiscard]] std::string lane_key(std::string_view lane, std::string_view key);

/// Reads the value of `lanes`: a map from name to the settings of an upstream. Error:
/// config_invalid with `file`:line:column.
[[nodiscard]] Result<void> read_lanes(Config& config, const YamlNode& lanes, std::string_view file);
/// Refuses a file that has both `upstream` and lanes.default. Error: as above.
[[nodiscard]] Result<void> check_default_once(const YamlNode& tree, std::string_view file);

/// Refuses listeners of lanes that there are not. `places` says where the lane of a listener
/// stands, as far as the file names any; empty: nowhere. Error: config_invalid.
[[nodiscard]] Result<void> check_listener_lanes(const Config& config,
                                                const std::vector<std::string>& places);

/// Makes the default lane when there is none, and checks the settings of each lane against each
/// other. What the environment names takes the place of what is not set: a proxy, and for the
/// default lane the key that systemd hands over. Adds warnings. Error: config_invalid, naming key
/// and value.
[[nodiscard]] Result<void> settle_lanes(Config& config, const Environment& environment);

}  // namespace opsrelay::config
