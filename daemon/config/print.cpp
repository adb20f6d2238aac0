// The effective configuration as YAML and JSON, from the table of keys.
#include <fmt/format.h>

#include <iterator>

#include "config/config.h"
#include "config/event_rules.h"
#include "config/fields.h"
#include "config/keys.h"
#include "core/json_text.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kMask = "***";

bool is_json_word(std::string_view text) {
    if (text == "true" || text == "false") return true;
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::string yaml_value(const Key& key, const Config& config) {
    const auto text = key.show(config);
    if (text.empty() && key.nullable) return "null";
    return key.quoted ? json_string(text) : text;
}

std::string json_value(const Key& key, const Config& config) {
    const auto text = key.show(config);
    if (text.empty() && key.nullable) return "null";
    if (key.read != nullptr) return text;
    return !key.quoted && is_json_word(text) ? text : json_string(text);
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
    add("lane", "default");
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
    std::string out;
    auto to = std::back_inserter(out);
    std::string_view section;
    for (const auto& key : keys()) {
        const auto name = split(key.name);
        if (name.section != section && !name.section.empty()) {
            fmt::format_to(to, "{}:\n", name.section);
        }
        section = name.section;
        fmt::format_to(to, "{}{}: {}\n", section.empty() ? "" : "  ", name.key,
                       yaml_value(key, config));
        if (key.name == "upstream.api_key_file" && !config.upstream.api_key.empty()) {
            fmt::format_to(to, "  # OPSRELAY_API_KEY: \"{}\"\n", kMask);
        }
    }
    if (config.listen.listeners.empty()) return out + "listeners: []\n";
    out += "listeners:\n";
    for (const auto& listener : config.listen.listeners) {
        fmt::format_to(to, "  - {}\n", listener_text(config, listener, false));
    }
    return out;
}

std::string to_json(const Config& config) {
    std::string out;
    std::string_view section;
    const auto add = [&](std::string_view text) {
        if (!out.empty() && out.back() != '{') out += ',';
        out += text;
    };
    for (const auto& key : keys()) {
        const auto name = split(key.name);
        if (name.section != section) {
            if (!section.empty()) out += '}';
            if (!name.section.empty()) add(fmt::format("{}:{{", json_string(name.section)));
        }
        section = name.section;
        add(fmt::format("{}:{}", json_string(name.key), json_value(key, config)));
        if (key.name == "upstream.api_key_file" && !config.upstream.api_key.empty()) {
            add(fmt::format("\"api_key\":{}", json_string(kMask)));
        }
    }
    if (!section.empty()) out += '}';
    add(fmt::format("\"listeners\":{}", json_listeners(config)));
    return fmt::format("{{\"config\":{{{}}},\"warnings\":{}}}\n", out, json_warnings(config));
}

}  // namespace opsrelay::config
