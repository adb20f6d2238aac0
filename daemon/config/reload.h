// What a reload may change, and what it must refuse.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "core/error.h"

namespace opsrelay::config {

/// Whether a listener's changed setting (`lane`, `path`, ...) takes effect with a reload.
[[nodiscard]] bool is_live_listener_key(std::string_view name);

/// Whether the settings of a lane are the same.
[[nodiscard]] bool same_upstream(const forward::Options& a, const forward::Options& b);

/// The keys whose values differ, in the order of keys(); lanes that come and go are
/// "lanes.europe". Error: config_invalid, naming those that need a restart.
[[nodiscard]] Result<std::vector<std::string>> changed_keys(const Config& running,
                                                            const Config& next);

}  // namespace opsrelay::config
