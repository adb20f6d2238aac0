#include "config/listeners.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "config/event_rules.h"
#include "config/fields.h"
#include "config/keys.h"
#include "core/json_text.h"

namespace opsrelay::config {

namespace {

using listen::ListenerOptions;

constexpr std::uint16_t kDataPort = 8710;
constexpr std::size_t kAccessMax = 64;  // users, and groups, of one listener
constexpr std::uint64_t kRateMax = 1'000'000;
// A listener names its defaults by a number of eight bits, 0 being none.
static_assert(kListenersMax < 256);

ListenerOptions unix_listener(ListenerKind kind, std::string path) {
    ListenerOptions listener;
    listener.kind = kind;
    listener.path = std::move(path);
    return listener;
}

ListenerOptions ip_listener(ListenerKind kind, std::uint16_t port) {
    ListenerOptions listener;
    listener.kind = kind;
    listener.address = "127.0.0.1";
    listener.port = port;
    return listener;
}

bool is_unix(ListenerKind kind) {
    return kind == ListenerKind::unix_datagram || kind == ListenerKind::unix_stream;
}

// RFC 1123 2.1; addresses without a colon are among them.
bool is_host_name(std::string_view text) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '.';
    };
    return !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), fits);
}

// One `{type: ..., ...}` of the list. `key` is "listeners[2]".
class ListenerReader {
public:
    ListenerReader(const YamlNode& node, std::string key, std::string_view file,
                   std::vector<parse::Defaults>& defaults)
        : node_(node), key_(std::move(key)), file_(file), defaults_(defaults) {}

    /// "file:line:column: " of the lane, or of the listener when it names none.
    [[nodiscard]] std::string lane_place() const {
        Place place = node_.place;
        for (const auto& member : node_.members) {
            if (member.key == "lane") place = member.value.place;
        }
        return place_text(file_, place) + ": ";
    }

    Result<ListenerOptions> read() {
        if (node_.kind != YamlNode::Kind::map) {
            return at(node_.place, fmt::format("{}: must be a map, such as {{type: udp, address: "
                                               "\"127.0.0.1:8710\"}}",
                                               key_));
        }
        for (const auto& member : node_.members) {
            const auto read = set(member);
            if (!read) return read.error();
        }
        if (!typed_) return at(node_.place, fmt::format("{}.type: is missing", key_));
        if (const auto complaint = contradiction()) {
            return at(node_.place, fmt::format("{}: {}", key_, *complaint));
        }
        return std::move(listener_);
    }

private:
    Error at(Place place, std::string_view complaint) const {
        return {Errc::config_invalid, fmt::format("{}: {}", place_text(file_, place), complaint)};
    }

    Result<void> set(const YamlNode::Member& member) {
        const auto known = listener_key_names();
        if (std::find(known.begin(), known.end(), member.key) == known.end()) {
            return at(
                member.place,
                with_prefix({Errc::config_invalid, unknown_key(member.key, known)}, key_).context);
        }
        const auto key = fmt::format("{}.{}", key_, member.key);
        const bool null = member.value.kind == YamlNode::Kind::null;
        if (null && (member.key == "group" || member.key == "token_file")) return {};
        if (member.key == "allow_uids") return read_ids(member.value, key, listener_.allow_uids);
        if (member.key == "allow_gids") return read_ids(member.value, key, listener_.allow_gids);
        if (member.key == "defaults") {
            auto defaults = read_defaults(member.value, key, file_);
            if (!defaults) return defaults.error();
            defaults_.push_back(*std::move(defaults));
            listener_.defaults = static_cast<std::uint8_t>(defaults_.size());
            return {};
        }
        if (member.value.kind != YamlNode::Kind::scalar) {
            return at(member.value.place, fmt::format("{}: needs one value", key));
        }
        const auto done = assign(member.key, key, member.value.text);
        if (!done) return at(member.value.place, done.error().context);
        return {};
    }

    Result<void> assign(std::string_view name, std::string_view key, std::string_view text) {
        if (name == "type") {
            const auto kind = enum_field(key, text, kListenerKinds);
            if (!kind) return kind.error();
            listener_.kind = *kind;
            typed_ = true;
        } else if (name == "path") {
            auto path = path_field(key, text, false);
            if (!path) return path.error();
            listener_.path = *std::move(path);
        } else if (name == "address") {
            const auto endpoint = any_endpoint_field(key, text);  // see contradiction()
            if (!endpoint) return endpoint.error();
            listener_.address = endpoint->address;
            listener_.port = endpoint->port;
        } else if (name == "mode") {
            const auto mode = mode_field(key, text);
            if (!mode) return mode.error();
            listener_.mode = *mode;
            owned_ = true;
        } else if (name == "group") {
            auto group = path_field(key, text, false);
            if (!group) return Error{Errc::config_invalid, fmt::format("{}: is no group", key)};
            listener_.group = *std::move(group);
            owned_ = true;
        } else if (name == "lane") {
            listener_.lane.name = text;  // check_listener_lanes() knows which there are
        } else {
            return assign_access(name, key, text);
        }
        return {};
    }

    Result<void> assign_access(std::string_view name, std::string_view key, std::string_view text) {
        if (name == "allow_remote") {
            const auto allowed = bool_field(key, text);
            if (!allowed) return allowed.error();
            listener_.allow_remote = *allowed;
        } else if (name == "token_file") {
            auto path = path_field(key, text, true);
            if (!path) return path.error();
            listener_.token_file = *std::move(path);
        } else {
            const auto rate = count_field(key, text, {0, kRateMax});
            if (!rate) return rate.error();
            listener_.rate_limit = static_cast<std::uint32_t>(*rate);
        }
        return {};
    }

    // [1000, 33]: numbers, so that no name service is asked.
    Result<void> read_ids(const YamlNode& list, std::string_view key,
                          std::vector<std::uint32_t>& into) {
        if (list.kind != YamlNode::Kind::list || list.items.empty() ||
            list.items.size() > kAccessMax) {
            return at(list.place, fmt::format("{}: must be a list of 1 to {} numbers, such as "
                                              "[1000]; leave it out to allow everybody",
                                              key, kAccessMax));
        }
        for (const auto& item : list.items) {
            const auto id = count_field(key, item.text, {0, UINT32_MAX - 1});
            if (!id) return at(item.place, id.error().context);
            into.push_back(static_cast<std::uint32_t>(*id));
        }
        return {};
    }

    std::optional<std::string> contradiction() const {
        const auto type = to_string(listener_.kind);
        const bool path = !listener_.path.empty();
        const bool address = !listener_.address.empty();
        if (is_unix(listener_.kind)) {
            if (!path) return fmt::format("{} needs a path", type);
            if (address) return fmt::format("{} has a path, not an address", type);
        } else if (listener_.kind == ListenerKind::udp) {
            if (!address) return fmt::format("{} needs an address", type);
            if (path) return fmt::format("{} has an address, not a path", type);
        } else if (path == address) {
            return fmt::format("{} needs either an address or a path", type);
        }
        if (owned_ && !path) return "mode and group are for sockets with a path";
        return access_contradiction();
    }

    std::optional<std::string> access_contradiction() const {
        const bool path = !listener_.path.empty();
        const bool http = listener_.kind == ListenerKind::http;
        const bool listed = !listener_.allow_uids.empty() || !listener_.allow_gids.empty();
        if (listed && !path) return "allow_uids and allow_gids are for sockets with a path";
        if (!listener_.token_file.empty() && !http) return "token_file is for type http";
        if (path && listener_.allow_remote) return "allow_remote is for an address";
        if (path || is_loopback(listener_.address)) return std::nullopt;
        if (!listener_.allow_remote) {
            return fmt::format(
                "{} is not a loopback address; use 127.0.0.1 or [::1], or say "
                "allow_remote: true",
                listener_.address);
        }
        if (http && listener_.token_file.empty()) {
            return fmt::format("{} is not a loopback address; http needs a token_file there",
                               listener_.address);
        }
        return std::nullopt;
    }

    const YamlNode& node_;
    std::string key_;
    std::string_view file_;
    std::vector<parse::Defaults>& defaults_;
    ListenerOptions listener_;
    bool typed_ = false;
    bool owned_ = false;  // mode or group was given
};

std::string describe(std::size_t index, ListenerKind kind) {
    return fmt::format("listeners[{}] ({})", index, to_string(kind));
}

// One name for each spelling of a path, such as /run/./a.sock.
std::string normal(const std::string& path) {
    return std::filesystem::path(path).lexically_normal().string();
}

// Takes the thing's place; the error names who has it already.
Result<void> claim(std::map<std::string, std::string>& taken, std::string place,
                   std::string owner) {
    const auto [at, fresh] = taken.try_emplace(std::move(place), std::move(owner));
    if (fresh) return {};
    return Error{Errc::config_invalid,
                 fmt::format("{}: {} is already used by {}", owner, at->first, at->second)};
}

// The port of Admin or MetricsListener.
template <typename Listener>
Result<void> claim_port(std::map<std::string, std::string>& taken, const Listener& listener,
                        const std::string& owner) {
    if (!listener.enabled || listener.port == 0) return {};
    return claim(taken, fmt::format("TCP {}", format_endpoint(listener.address, listener.port)),
                 owner);
}

Result<std::string> settle_path(std::string_view run_dir, std::string_view path,
                                std::string_view owner) {
    auto settled = path.starts_with('/') ? std::string(path) : fmt::format("{}/{}", run_dir, path);
    constexpr auto kMax = sizeof(sockaddr_un::sun_path) - 1;
    if (settled.size() <= kMax) return settled;
    return Error{Errc::config_invalid,
                 fmt::format("{}: {} has {} bytes, a socket path may have {}; choose a shorter "
                             "run_dir",
                             owner, settled, settled.size(), kMax)};
}

}  // namespace

std::vector<ListenerOptions> default_listeners() {
    std::vector<ListenerOptions> listeners{
        unix_listener(ListenerKind::unix_datagram, "telemetry.sock"),
        unix_listener(ListenerKind::unix_stream, kStreamSocket),
        ip_listener(ListenerKind::udp, kDataPort), ip_listener(ListenerKind::http, kDataPort),
        unix_listener(ListenerKind::http, "http.sock")};
    for (auto& listener : listeners) listener.by_default = true;
    return listeners;
}

Result<void> read_listeners(Config& config, const YamlNode& list, std::string_view file,
                            std::vector<std::string>& lane_places) {
    const auto refuse = [&](std::string_view complaint) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: listeners: {}", place_text(file, list.place), complaint)};
    };
    if (list.kind != YamlNode::Kind::list) return refuse("must be a list; [] for none");
    if (list.items.size() > kListenersMax) {
        return refuse(fmt::format("{} is outside [0, {}]", list.items.size(), kListenersMax));
    }
    auto& listeners = config.listen.listeners;
    auto& defaults = config.events.defaults;
    listeners.clear();
    for (std::size_t i = 0; i < list.items.size(); ++i) {
        const auto key = fmt::format("listeners[{}]", i);
        ListenerReader reader(list.items[i], key, file, defaults);
        auto listener = reader.read();
        if (!listener) return listener.error();
        lane_places.push_back(reader.lane_place());
        listeners.push_back(*std::move(listener));
    }
    return {};
}

std::span<const std::string_view> listener_key_names() {
    static constexpr std::array<std::string_view, 12> kNames{
        "type",     "path",         "address",    "mode",       "group",      "lane",
        "defaults", "allow_remote", "token_file", "allow_uids", "allow_gids", "rate_limit"};
    return kNames;
}

Result<void> set_port(std::vector<ListenerOptions>& listeners, ListenerKind kind,
                      std::string_view flag, std::string_view text) {
    const auto is_match = [kind](const ListenerOptions& listener) {
        return listener.kind == kind && listener.path.empty();
    };
    if (text == "off") {
        std::erase_if(listeners, is_match);
        return {};
    }
    const auto port = port_field(flag, text);
    if (!port) return Error{Errc::config_invalid, port.error().context + "; or write off"};
    const auto count = std::count_if(listeners.begin(), listeners.end(), is_match);
    if (count > 1) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: {}: the file has {} {} listeners with an address; set their "
                                 "ports there",
                                 flag, text, count, to_string(kind))};
    }
    const auto found = std::find_if(listeners.begin(), listeners.end(), is_match);
    if (found == listeners.end()) {
        listeners.push_back(ip_listener(kind, *port));
    } else {
        found->port = *port;
        found->by_default = false;
    }
    return {};
}

Result<void> settle_listeners(Config& config) {
    std::map<std::string, std::string> taken;
    for (std::size_t i = 0; i < config.listen.listeners.size(); ++i) {
        auto& listener = config.listen.listeners[i];
        const auto owner = describe(i, listener.kind);
        if (listener.path.empty()) {
            if (listener.port == 0) continue;
            const bool udp = listener.kind == ListenerKind::udp;
            const auto claimed =
                claim(taken,
                      fmt::format("{} {}", udp ? "UDP" : "TCP",
                                  format_endpoint(listener.address, listener.port)),
                      owner);
            if (!claimed) return claimed.error();
            continue;
        }
        auto path = settle_path(config.run_dir, listener.path, owner);
        if (!path) return path.error();
        listener.path = *std::move(path);
        const auto claimed = claim(taken, normal(listener.path), owner);
        if (!claimed) return claimed.error();
    }
    auto socket = settle_path(config.run_dir, config.admin.socket, "admin.socket");
    if (!socket) return socket.error();
    config.admin.socket = *std::move(socket);
    const auto claimed = claim(taken, normal(config.admin.socket), "admin.socket");
    if (!claimed) return claimed.error();
    if (auto admin = claim_port(taken, config.admin, "admin.address"); !admin) return admin;
    return claim_port(taken, config.metrics, "metrics.address");
}

Result<void> read_allowed_hosts(Config& config, const YamlNode& node, std::string_view file) {
    constexpr std::string_view kKey = "http.allowed_hosts";
    const auto refuse = [&](Place place, const std::string& complaint) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: {}: {}", place_text(file, place), kKey, complaint)};
    };
    if (node.kind != YamlNode::Kind::list) {
        return refuse(node.place, "must be a list; [] for none");
    }
    if (node.items.size() > kAllowedHostsMax) {
        return refuse(node.place,
                      fmt::format("{} is outside [0, {}]", node.items.size(), kAllowedHostsMax));
    }
    std::vector<std::string> hosts;
    for (const auto& item : node.items) {
        if (item.kind != YamlNode::Kind::scalar) return refuse(item.place, "needs one value");
        if (!is_host_name(item.text)) {
            return refuse(item.place,
                          fmt::format("\"{}\" is no host name; it has 1 to 253 letters, digits, - "
                                      "and ., and no port",
                                      item.text));
        }
        hosts.push_back(item.text);
    }
    config.listen.http_allowed_hosts = std::move(hosts);
    return {};
}

std::string show_allowed_hosts(const Config& config) {
    std::string out;
    for (const auto& host : config.listen.http_allowed_hosts) {
        out += fmt::format("{}{}", out.empty() ? "" : ", ", json_string(host));
    }
    return fmt::format("[{}]", out);
}

}  // namespace opsrelay::config
