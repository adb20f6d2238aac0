#include "config/lanes.h"

#include <fmt/format.h>

#include "config/fields.h"
#include "config/upstream_keys.h"
#include "config/upstream_proxy.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kCredential = "api-key";  // the name in a systemd unit

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

Result<void> check_certificate(const std::string& lane, const forward::Options& upstream) {
    if (upstream.client_cert_file.empty() == upstream.client_key_file.empty()) return {};
    return Error{Errc::config_invalid, fmt::format("{} and {} belong together; set both or none",
                                                   lane_key(lane, "client_cert_file"),
                                                   lane_key(lane, "client_key_file"))};
}

// systemd's LoadCredential=, which gives an absolute path. What is set elsewhere counts more.
void take_credential(forward::Options& upstream, const Environment& environment) {
    const auto directory = environment.variables.find("CREDENTIALS_DIRECTORY");
    if (directory == environment.variables.end() || !directory->second.starts_with('/')) return;
    if (!upstream.api_key_file.empty() || !upstream.api_key.empty()) return;
    upstream.api_key_file = fmt::format("{}/{}", directory->second, kCredential);
}

void settle_key(const std::string& lane, forward::Options& upstream,
                std::vector<std::string>& warnings) {
    const auto key = lane_key(lane, "api_key_file");
    if (!upstream.api_key.empty() && !upstream.api_key_file.empty()) {
        upstream.api_key.wipe();
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

Result<void> settle_lanes(Config& config, const Environment& environment) {
    if (config.lanes.empty()) config.lanes.try_emplace(kDefaultLaneName);
    for (auto& [name, upstream] : config.lanes) {
        if (auto fits = check_plaintext(name, upstream, config.warnings); !fits) return fits;
        if (auto whole = check_certificate(name, upstream); !whole) return whole;
        if (auto settled = settle_proxy(upstream, environment); !settled) return settled;
        if (name == kDefaultLaneName) take_credential(upstream, environment);
        settle_key(name, upstream, config.warnings);
    }
    return {};
}

}  // namespace opsrelay::config
