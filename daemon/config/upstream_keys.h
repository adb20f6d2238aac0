// The keys of one upstream: those of `upstream`, and of each of `lanes`.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "forward/options.h"

namespace opsrelay::config {

/// The section in which these keys are short for those of the lane `default`.
inline constexpr std::string_view kUpstreamSection = "upstream";

/// `upstream.url`, which is also lanes.NAME.url.
struct UpstreamKey {
    std::string_view name;  // with the section
    bool nullable;          // an empty text or YAML null means "not set"
    bool quoted;            // shown as a string, else as it is
    /// `key` is the name to complain with. Error: config_invalid.
    Result<void> (*set)(forward::Options& options, std::string_view key, std::string_view text);
    std::string (*show)(const forward::Options& options);

    /// "url".
    [[nodiscard]] std::string_view short_name() const {
        return name.substr(kUpstreamSection.size() + 1);
    }
};

/// In the order in which they are shown.
[[nodiscard]] std::span<const UpstreamKey> upstream_keys();

}  // namespace opsrelay::config
