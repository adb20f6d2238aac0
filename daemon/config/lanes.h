// The lanes: what holds for the settings of each, and between them.
#pragma once

#include <string>
#include <string_view>

#include "config/config.h"
#include "core/error.h"

namespace opsrelay::config {

/// How a setting of a lane is called in messages: "upstream.url", "lanes.europe.url".
[[nodiscard]] std::string lane_key(std::string_view lane, std::string_view key);

/// Makes the default lane when there is none, and checks the settings of each lane against each
/// other. What the environment names takes the place of what is not set: a proxy, and for the
/// default lane the key that systemd hands over. Adds warnings. Error: config_invalid, naming key
/// and value.
[[nodiscard]] Result<void> settle_lanes(Config& config, const Environment& environment);

}  // namespace opsrelay::config
