// The list of listeners: from the file, from --http-port and --udp-port, and the rules between
// them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/yaml_reader.h"
#include "core/error.h"

namespace opsrelay::config {

inline constexpr std::size_t kListenersMax = 64;
inline constexpr std::size_t kAllowedHostsMax = 64;

/// Names of what may be said of a listener.
[[nodiscard]] std::span<const std::string_view> listener_key_names();

/// What listens when the file has no `listeners`. Paths are relative to the run directory.
[[nodiscard]] std::vector<listen::ListenerOptions> default_listeners();

/// Reads the value of `listeners`, defaults included, and where the lane of each stands
/// (check_listener_lanes()). Error: config_invalid with `file`:line:column.
[[nodiscard]] Result<void> read_listeners(Config& config, const YamlNode& list,
                                          std::string_view file,
                                          std::vector<std::string>& lane_places);

/// http.allowed_hosts: a list of host names, without ports. Error: as above.
[[nodiscard]] Result<void> read_allowed_hosts(Config& config, const YamlNode& node,
                                              std::string_view file);
/// The list as JSON, which is YAML too.
[[nodiscard]] std::string show_allowed_hosts(const Config& config);

/// --http-port and --udp-port: "off" removes the IP listeners of that kind; a number sets the port
/// of the only one, or makes one on 127.0.0.1. Error: config_invalid when there are several.
[[nodiscard]] Result<void> set_port(std::vector<listen::ListenerOptions>& listeners,
                                    ListenerKind kind, std::string_view flag,
                                    std::string_view text);

/// Makes socket paths absolute (listeners and admin) and refuses paths longer than sun_path, and
/// two listeners, the admin ones included, on one path or address.
[[nodiscard]] Result<void> settle_listeners(Config& config);

}  // namespace opsrelay::config
