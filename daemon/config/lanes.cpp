#include "config/lanes.h"

#include <fmt/format.h>

#include "config/fields.h"
#include "config/upstream_keys.h"

namespace opsrelay::config {

namespace {

Result<void> check_plaintext(const std::string& lane, const forward::Options& upstream,
                             std::vector<std::string>& warnings) {
    if (!upstream.url.starts_with("http://") || is_loopback(url_host(upstream.url))) return {};
    const auto key = lane_key(lane, "url");
    if (!upstream.allow_plaintext) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: {} would send the API key unencrypted; use https:// or set "
                                 "{}: true",
                                 key, upstream.url, lane_key(lane, "allow_plaintext"))};
    }
    warnings.push_back(
        fmt::format("{}: {} sends the API key and all events unencrypted", key, upstream.url));
    return {};
}

void settle_key(const std::string& lane, forward::Options& upstream,
                std::vector<std::string>& warnings) {
    const auto key = lane_key(lane, "api_key_file");
    if (!upstream.api_key.empty() && !upstream.api_key_file.empty()) {
        upstream.api_key.clear();
        warnings.push_back(
            fmt::format("OPSRELAY_API_KEY is ignored because {} is set; unset the variable", key));
    } else if (!upstream.api_key.empty()) {
        warnings.emplace_back(
            "OPSRELAY_API_KEY holds the API key where other processes may see it; prefer a file "
            "and OPSRELAY_API_KEY_FILE");
    } else if (upstream.api_key_file.empty()) {
        warnings.push_back(
            fmt::format("no API key: events are accepted and spooled, not delivered; put the key "
                        "into a file and set {}{}",
                        key, lane == kDefaultLaneName ? " or OPSRELAY_API_KEY_FILE" : ""));
    }
}

}  // namespace

std::string lane_key(std::string_view lane, std::string_view key) {
    if (lane == kDefaultLaneName) return fmt::format("{}.{}", kUpstreamSection, key);
    return fmt::format("lanes.{}.{}", lane, key);
}

Result<void> settle_lanes(Config& config) {
    if (config.lanes.empty()) config.lanes.try_emplace(kDefaultLaneName);
    for (auto& [name, upstream] : config.lanes) {
        if (auto fits = check_plaintext(name, upstream, config.warnings); !fits) return fits;
        settle_key(name, upstream, config.warnings);
    }
    return {};
}

}  // namespace opsrelay::config
