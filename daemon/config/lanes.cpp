#include "config/lanes.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "config/fields.h"
#include "config/keys.h"
#include "config/upstream_keys.h"
#include "config/upstream_proxy.h"
#include "spool/options.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kCredential = "api-key";  // the name in a systemd unit
constexpr std::size_t kNameBytesMax = 32;

Error at(std::string_view file, Place place, std::string_view complaint) {
    return {Errc::config_invalid, fmt::format("{}: {}", place_text(file, place), complaint)};
}

// Names become label values, arguments and texts in the spool, where they stay for ever.
bool is_lane_name(std::string_view name) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    };
    return !name.empty() && name.size() <= kNameBytesMax && name.front() != '-' &&
           std::all_of(name.begin(), name.end(), fits);
}

std::string unknown_lane_key(std::string_view lane, std::string_view key) {
    std::vector<std::string> names;
    for (const auto& known : upstream_keys()) {
        names.push_back(fmt::format("lanes.{}.{}", lane, known.short_name()));
    }
    const std::vector<std::string_view> views(names.begin(), names.end());
    return unknown_key(fmt::format("lanes.{}.{}", lane, key), views);
}

Result<void> read_lane(forward::Options& upstream, std::string_view lane, const YamlNode& settings,
                       std::string_view file) {
    if (settings.kind == YamlNode::Kind::null) return {};
    if (settings.kind != YamlNode::Kind::map) {
        return at(file, settings.place, fmt::format("lanes.{}: must be a map of keys", lane));
    }
    for (const auto& member : settings.members) {
        const auto keys = upstream_keys();
        const auto key = std::find_if(keys.begin(), keys.end(), [&](const UpstreamKey& known) {
            return known.short_name() == member.key;
        });
        if (key == keys.end()) return at(file, member.place, unknown_lane_key(lane, member.key));
        const auto name = fmt::format("lanes.{}.{}", lane, member.key);
        const auto& value = member.value;
        const bool null = value.kind == YamlNode::Kind::null;
        if (value.kind != YamlNode::Kind::scalar && !(null && key->nullable)) {
            return at(file, value.place, fmt::format("{}: needs one value", name));
        }
        const auto done = key->set(upstream, name, value.text);
        if (!done) return at(file, value.place, done.error().context);
    }
    return {};
}

const YamlNode::Member* find_member(const YamlNode& map, std::string_view key) {
    const auto found = std::find_if(map.members.begin(), map.members.end(),
                                    [key](const auto& member) { return member.key == key; });
    return found == map.members.end() ? nullptr : &*found;
}

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

Result<void> read_lanes(Config& config, const YamlNode& lanes, std::string_view file) {
    if (lanes.kind == YamlNode::Kind::null) return {};
    if (lanes.kind != YamlNode::Kind::map) {
        return at(file, lanes.place, "lanes: must be a map from a lane's name to its upstream");
    }
    for (const auto& member : lanes.members) {
        if (!is_lane_name(member.key)) {
            return at(file, member.place,
                      fmt::format("lanes: \"{}\" is no name for a lane; it has 1 to {} of a-z, "
                                  "0-9, - and _, and begins with none of -",
                                  member.key, kNameBytesMax));
        }
        auto read = read_lane(config.lanes[member.key], member.key, member.value, file);
        if (!read) return read;
    }
    return {};
}

Result<void> check_default_once(const YamlNode& tree, std::string_view file) {
    const auto* const upstream = find_member(tree, kUpstreamSection);
    const auto* const lanes = find_member(tree, "lanes");
    if (upstream == nullptr || upstream->value.kind == YamlNode::Kind::null) return {};
    const auto* const lane =
        lanes == nullptr ? nullptr : find_member(lanes->value, kDefaultLaneName);
    if (lane == nullptr) return {};
    const auto later = std::max(upstream->place.line, lane->place.line);
    return at(
        file, later == lane->place.line ? lane->place : upstream->place,
        fmt::format("lanes.{}: line {} and line {} set the same lane, for which {} is short; "
                    "keep one of them",
                    kDefaultLaneName, upstream->place.line, lane->place.line, kUpstreamSection));
}

Result<void> check_listener_lanes(const Config& config, const std::vector<std::string>& places) {
    std::vector<std::string_view> known;
    for (const auto& [name, upstream] : config.lanes) known.push_back(name);
    const auto& listeners = config.listen.listeners;
    for (std::size_t i = 0; i < listeners.size(); ++i) {
        const auto& lane = listeners[i].lane.name;
        if (config.lanes.contains(lane)) continue;
        const auto place = i < places.size() ? places[i] : std::string{};
        const auto near = nearest(lane, known);
        const auto hint = near ? fmt::format("did you mean {}?", *near)
                               : fmt::format("there are {}", fmt::join(known, ", "));
        return Error{
            Errc::config_invalid,
            fmt::format("{}listeners[{}].lane: there is no lane \"{}\"; {}", place, i, lane, hint)};
    }
    return {};
}

Result<void> settle_lanes(Config& config, const Environment& environment) {
    if (config.lanes.empty()) config.lanes.try_emplace(kDefaultLaneName);
    if (config.lanes.size() > spool::kLanesMax) {
        return Error{Errc::config_invalid,
                     fmt::format("lanes: there are {}, at most {} are allowed", config.lanes.size(),
                                 spool::kLanesMax)};
    }
    for (auto& [name, upstream] : config.lanes) {
        if (auto fits = check_plaintext(name, upstream, config.warnings); !fits) return fits;
        if (auto whole = check_certificate(name, upstream); !whole) return whole;
        if (auto settled = settle_proxy(upstream, environment); !settled) return settled;
        if (name == kDefaultLaneName) take_credential(upstream, environment);
        const auto trusted = environment.variables.find("SSL_CERT_FILE");
        if (trusted != environment.variables.end()) upstream.system_ca_file = trusted->second;
        settle_key(name, upstream, config.warnings);
    }
    return {};
}

}  // namespace opsrelay::config
