#include "config/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "config/assign.h"
#include "config/event_rules.h"
#include "config/fields.h"
#include "config/listeners.h"

namespace opsrelay::config {

namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""h;
using View = std::string_view;

using ReadEndpoint = Result<Endpoint> (*)(View key, View text);

// To Admin or MetricsListener.
template <typename Listener>
Result<void> assign_listener(Listener& listener, View key, View text, ReadEndpoint read) {
    if (text == "off") {
        listener.enabled = false;
        return {};
    }
    auto endpoint = read(key, text);
    if (!endpoint) return endpoint.error();
    listener.enabled = true;
    listener.address = endpoint->address;
    listener.port = endpoint->port;
    return {};
}

template <typename Listener>
std::string show_listener(const Listener& listener) {
    return listener.enabled ? format_endpoint(listener.address, listener.port) : "off";
}

// "off" turns addresses off, and would be a file's name here.
Result<std::string> admin_socket_field(std::string_view key, std::string_view text) {
    if (text != "off") return path_field(key, text, false);
    return Error{Errc::config_invalid,
                 fmt::format("{}: it cannot be off: operators' commands and doctor need it; write "
                             "./off for a file of that name",
                             key)};
}

std::string identity_rule(parse::IdentityRule rule) {
    return std::string(kIdentityRules.at(index_of(rule)).name);
}

constexpr Range<Bytes> kVolumeSizes{16_MiB, 16'384_GiB};
constexpr bool kNullable = true;
constexpr bool kQuoted = true;
constexpr auto kLive = Change::live;
constexpr auto kRestart = Change::restart;

const std::array kOwnKeys{
    Key{"run_dir", false, kQuoted, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.run_dir, path_field(key, text, true));
        },
        [](const Config& c) { return c.run_dir; }},
    Key{"spool.dir", false, kQuoted, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.spool.dir, path_field(key, text, true));
        },
        [](const Config& c) { return c.spool.dir; }},
    Key{"spool.max_bytes", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.spool.bytes_max, bytes_field(key, text, {64_MiB, 16'384_GiB}));
        },
        [](const Config& c) { return format_bytes(c.spool.bytes_max); }},
    Key{"spool.dead_max_bytes", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.spool.dead_bytes_max, bytes_field(key, text, {64_KiB, 16'384_GiB}));
        },
        [](const Config& c) { return format_bytes(c.spool.dead_bytes_max); }},
    Key{"spool.volume_bytes", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.spool.volume_bytes, text == "0" ? Result<Bytes>(Bytes{})
                                                            : bytes_field(key, text, kVolumeSizes));
        },
        [](const Config& c) {
            const auto bytes = c.spool.volume_bytes;
            return bytes.count == 0 ? std::string("0") : format_bytes(bytes);
        }},
    Key{"spool.on_full", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.spool.on_full, enum_field(key, text, spool::kOnFulls));
        },
        [](const Config& c) { return std::string(to_string(c.spool.on_full)); }},
    Key{"spool.max_age", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.spool.max_age, duration_field(key, text, {0ms, 8760h}));
        },
        [](const Config& c) { return format_duration(c.spool.max_age); }},
    Key{"spool.ephemeral", false, false, kLive,
        [](Config& c, View key, View text) { return assign(c.ephemeral, bool_field(key, text)); },
        [](const Config& c) { return yes_no(c.ephemeral); }},
    Key{"spool.commit_gap", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.spool.commit_gap, duration_field(key, text, {0ms, 1s}));
        },
        [](const Config& c) { return format_duration(c.spool.commit_gap); }},
    Key{"dedupe.window", false, false, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.spool.ids.window, duration_field(key, text, {1min, 720h}));
        },
        [](const Config& c) { return format_duration(c.spool.ids.window); }},
    Key{"dedupe.max_ids", false, false, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.spool.ids.ids_max, count_field(key, text, {10'000, 100'000'000}));
        },
        [](const Config& c) { return fmt::format("{}", c.spool.ids.ids_max); }},
    Key{"events.missing_id", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.events.missing_id, enum_field(key, text, kMissingIds));
        },
        [](const Config& c) {
            return std::string(kMissingIds.at(index_of(c.events.missing_id)).name);
        }},
    Key{"events.stamp_created_at", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.events.stamp_created_at, bool_field(key, text));
        },
        [](const Config& c) { return yes_no(c.events.stamp_created_at); }},
    Key{"events.lift_tenant", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.events.lift_tenant, bool_field(key, text));
        },
        [](const Config& c) { return yes_no(c.events.lift_tenant); }},
    Key{"events.model_aliases", false, false, kLive, nullptr, show_model_aliases,
        read_model_aliases},
    Key{"privacy.deny_fields", false, false, kLive, nullptr, show_deny_fields, read_deny_fields},
    Key{"privacy.user_id", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.events.privacy.user_id, enum_field(key, text, kIdentityRules));
        },
        [](const Config& c) { return identity_rule(c.events.privacy.user_id); }},
    Key{"privacy.tenant_id", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.events.privacy.tenant_id, enum_field(key, text, kIdentityRules));
        },
        [](const Config& c) { return identity_rule(c.events.privacy.tenant_id); }},
    Key{"privacy.hash_key_file", kNullable, kQuoted, kLive,
        [](Config& c, View key, View text) { return assign_file(c.hash_key_file, key, text); },
        [](const Config& c) { return c.hash_key_file; }},
    Key{"memory.max_bytes", false, false, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.memory_max, bytes_field(key, text, {32_MiB, 64_GiB}));
        },
        [](const Config& c) { return format_bytes(c.memory_max); }},
    Key{"memory.stall_buffer", false, false, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.spool.stall_buffer, bytes_field(key, text, {1_MiB, 1_GiB}));
        },
        [](const Config& c) { return format_bytes(c.spool.stall_buffer); }},
    Key{"http.ack_timeout", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.listen.http_ack_timeout, duration_field(key, text, {10ms, 60s}));
        },
        [](const Config& c) { return format_duration(c.listen.http_ack_timeout); }},
    Key{"http.mirror_upstream", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.listen.http_mirror_upstream, bool_field(key, text));
        },
        [](const Config& c) { return yes_no(c.listen.http_mirror_upstream); }},
    Key{"http.allowed_hosts", false, false, kLive, nullptr, show_allowed_hosts, read_allowed_hosts},
    Key{"http.max_body", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.listen.http_body_max, bytes_field(key, text, {64_KiB, 64_MiB}));
        },
        [](const Config& c) { return format_bytes(c.listen.http_body_max); }},
    Key{"stream.ack_timeout", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.listen.stream_ack_timeout, duration_field(key, text, {100ms, 10min}));
        },
        [](const Config& c) { return format_duration(c.listen.stream_ack_timeout); }},
    Key{"shutdown.deadline", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.shutdown_deadline, duration_field(key, text, {0ms, 1h}));
        },
        [](const Config& c) { return format_duration(c.shutdown_deadline); }},
    Key{"admin.address", false, kQuoted, kRestart,
        [](Config& c, View key, View text) {
            return assign_listener(c.admin, key, text, endpoint_field);
        },
        [](const Config& c) { return show_listener(c.admin); }},
    Key{"admin.socket", false, kQuoted, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.admin.socket, admin_socket_field(key, text));
        },
        [](const Config& c) { return c.admin.socket; }},
    Key{"metrics.address", false, kQuoted, kRestart,
        [](Config& c, View key, View text) {
            return assign_listener(c.metrics, key, text, any_endpoint_field);
        },
        [](const Config& c) { return show_listener(c.metrics); }},
    Key{"log.format", false, false, kRestart,
        [](Config& c, View key, View text) {
            return assign(c.log_format, enum_field(key, text, kLogFormats));
        },
        [](const Config& c) { return std::string(kLogFormats.at(index_of(c.log_format)).name); }},
    Key{"log.level", false, false, kLive,
        [](Config& c, View key, View text) {
            return assign(c.log_level, enum_field(key, text, kLogLevels));
        },
        [](const Config& c) { return std::string(kLogLevels.at(index_of(c.log_level)).name); }},
};

std::vector<Key> all_keys() {
    std::vector<Key> all;
    for (const auto& key : upstream_keys()) {
        all.push_back({key.name, key.nullable, key.quoted, kLive, nullptr, nullptr, nullptr, &key});
    }
    all.insert(all.end(), kOwnKeys.begin(), kOwnKeys.end());
    return all;
}

}  // namespace

Result<void> Key::assign(Config& config, std::string_view text) const {
    if (upstream == nullptr) return set(config, name, text);
    return upstream->set(config.lanes[kDefaultLaneName], name, text);
}

std::span<const Key> keys() {
    static const auto all = all_keys();
    return all;
}

const Key* find_key(std::string_view name) {
    const auto all = keys();
    const auto found =
        std::find_if(all.begin(), all.end(), [name](const Key& key) { return key.name == name; });
    return found == all.end() ? nullptr : &*found;
}

std::vector<std::string_view> key_names() {
    std::vector<std::string_view> names;
    for (const auto& key : keys()) names.push_back(key.name);
    return names;
}

std::string unknown_key(std::string_view name, std::span<const std::string_view> candidates) {
    if (const auto near = nearest(name, candidates)) {
        return fmt::format("{}: unknown key; did you mean {}?", name, *near);
    }
    return fmt::format("{}: unknown key; known are {}", name, fmt::join(candidates, ", "));
}

std::string variable_name(std::string_view key) {
    std::string name = "OPSRELAY_";
    for (const char c : key) {
        if (c == '.') {
            name += "__";
        } else {
            name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
        }
    }
    return name;
}

}  // namespace opsrelay::config
