// The effective configuration as YAML and JSON, from the table of keys.
#include <fmt/format.h>

#include "config/config.h"
#include "config/event_rules.h"
#include "config/fields.h"
#include "config/keys.h"
#include "config/upstream_keys.h"
#include "core/json_text.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kMask = "***";

bool is_json_word(std::string_view text) {
    if (text == "true" || text == "false") return true;
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// `text` is what the key shows.
std::string yaml_value(std::string text, bool nullable, bool quoted) {
    if (text.empty() && nullable) return "null";
    return quoted ? json_string(text) : text;
}

std::string json_value(std::string text, bool nullable, bool quoted) {
    if (text.empty() && nullable) return "null";
    return !quoted && is_json_word(text) ? text : json_string(text);
}

std::string yaml_upstream(const forward::Options& upstream, std::string_view indent) {
    std::string out;
    for (const auto& key : upstream_keys()) {
        out += fmt::format("{}{}: {}\n", indent, key.short_name(),
                           yaml_value(key.show(upstream), key.nullable, key.quoted));
    }
    if (upstream.api_key.empty()) return out;
    return out + fmt::format("{}# OPSRELAY_API_KEY: \"{}\"\n", indent, kMask);
}

std::string json_upstream(const forward::Options& upstream) {
    std::string out;
    for (const auto& key : upstream_keys()) {
        out += fmt::format("{}{}:{}", out.empty() ? "" : ",", json_string(key.short_name()),
                           json_value(key.show(upstream), key.nullable, key.quoted));
    }
    if (!upstream.api_key.empty()) out += fmt::format(",\"api_key\":{}", json_string(kMask));
    return fmt::format("{{{}}}", out);
}

// One lane, which is the usual one, is shown in its short form.
bool only_default(const Config& config) {
    return config.lanes.size() == 1 && config.lanes.begin()->first == kDefaultLaneName;
}

std::string yaml_lanes(const Config& config) {
    if (only_default(config)) {
        return fmt::format("{}:\n{}", kUpstreamSection,
                           yaml_upstream(config.lanes.begin()->second, "  "));
    }
    std::string out = "lanes:\n";
    for (const auto& [name, upstream] : config.lanes) {
        out += fmt::format("  {}:\n{}", json_string(name), yaml_upstream(upstream, "    "));
    }
    return out;
}

std::string json_lanes(const Config& config) {
    if (only_default(config)) {
        return fmt::format("{}:{}", json_string(kUpstreamSection),
                           json_upstream(config.lanes.begin()->second));
    }
    std::string out;
    for (const auto& [name, upstream] : config.lanes) {
        out += fmt::format("{}{}:{}", out.empty() ? "" : ",", json_string(name),
                           json_upstream(upstream));
    }
    return fmt::format("\"lanes\":{{{}}}", out);
}

std::string json_numbers(const std::vector<std::uint32_t>& numbers) {
    return fmt::format("[{}]", fmt::join(numbers, ", "));
}

// Only what differs from a listener that anybody may use.
template <typename Add, typename AddJson>
void add_access(const listen::ListenerOptions& listener, const Add& add, const AddJson& add_json) {
    if (listener.allow_remote) add_json("allow_remote", "true");
    if (!listener.token_file.empty()) add("token_file", listener.token_file);
    if (!listener.allow_uids.empty()) add_json("allow_uids", json_numbers(listener.allow_uids));
    if (!listener.allow_gids.empty()) add_json("allow_gids", json_numbers(listener.allow_gids));
    if (listener.rate_limit != 0) add_json("rate_limit", fmt::format("{}", listener.rate_limit));
}

// A flow map, `key: "value"` or `"key":"value"`; all values but the defaults are strings.
std::string listener_text(const Config& config, const listen::ListenerOptions& listener,
                          bool json) {
    std::string out;
    const auto add_json = [&](std::string_view key, std::string_view value) {
        if (!out.empty()) out += json ? "," : ", ";
        out += json ? fmt::format("{}:{}", json_string(key), value)
                    : fmt::format("{}: {}", key, value);
    };
    const auto add = [&](std::string_view key, std::string_view value) {
        add_json(key, json_string(value));
    };
    add("type", to_string(listener.kind));
    if (listener.path.empty()) {
        add("address", format_endpoint(listener.address, listener.port));
    } else {
        add("path", listener.path);
        add("mode", fmt::format("{:04o}", listener.mode));
        if (listener.group) add("group", *listener.group);
    }
    add("lane", listener.lane.name);
    add_access(listener, add, add_json);
    if (listener.defaults != 0) {
        add_json("defaults", show_defaults(config.events.defaults.at(listener.defaults - 1U)));
    }
    return fmt::format("{{{}}}", out);
}

std::string json_listeners(const Config& config) {
    std::string out;
    for (const auto& listener : config.listen.listeners) {
        if (!out.empty()) out += ',';
        out += listener_text(config, listener, true);
    }
    return fmt::format("[{}]", out);
}

std::string json_warnings(const Config& config) {
    std::string out;
    for (const auto& warning : config.warnings) {
        if (!out.empty()) out += ',';
        out += json_string(warning);
    }
    return fmt::format("[{}]", out);
}

// "spool" and "max_bytes"; the section is empty for a key at the top.
struct Name {
    std::string_view section;
    std::string_view key;
};
Name split(std::string_view name) {
    const auto dot = name.find('.');
    if (dot == std::string_view::npos) return {{}, name};
    return {name.substr(0, dot), name.substr(dot + 1)};
}

}  // namespace

std::string to_yaml(const Config& config) {
    std::string out = yaml_lanes(config);
    std::string_view section;
    for (const auto& key : keys()) {
        if (key.upstream != nullptr) continue;
        const auto name = split(key.name);
        if (name.section != section && !name.section.empty()) {
            out += fmt::format("{}:\n", name.section);
        }
        section = name.section;
        out += fmt::format("{}{}: {}\n", section.empty() ? "" : "  ", name.key,
                           yaml_value(key.show(config), key.nullable, key.quoted));
    }
    if (config.listen.listeners.empty()) return out + "listeners: []\n";
    out += "listeners:\n";
    for (const auto& listener : config.listen.listeners) {
        out += fmt::format("  - {}\n", listener_text(config, listener, false));
    }
    return out;
}

std::string to_json(const Config& config) {
    std::string out = json_lanes(config);
    std::string_view section;
    const auto add = [&](std::string_view text) {
        if (out.back() != '{') out += ',';
        out += text;
    };
    for (const auto& key : keys()) {
        if (key.upstream != nullptr) continue;
        const auto name = split(key.name);
        if (name.section != section) {
            if (!section.empty()) out += '}';
            if (!name.section.empty()) add(fmt::format("{}:{{", json_string(name.section)));
        }
        section = name.section;
        const auto text = key.show(config);
        const auto value = key.read != nullptr ? text : json_value(text, key.nullable, key.quoted);
        add(fmt::format("{}:{}", json_string(name.key), value));
    }
    if (!section.empty()) out += '}';
    add(fmt::format("\"listeners\":{}", json_listeners(config)));
    return fmt::format("{{\"config\":{{{}}},\"warnings\":{}}}\n", out, json_warnings(config));
}

}  // namespace opsrelay::config
