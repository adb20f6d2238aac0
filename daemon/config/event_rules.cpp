#include "config/event_rules.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <span>
#include <vector>

#include "config/keys.h"
#include "core/json_text.h"

namespace opsrelay::config {

namespace {

Error invalid(std::string context) { return {Errc::config_invalid, std::move(context)}; }

Error at(std::string_view file, Place place, std::string_view complaint) {
    return invalid(fmt::format("{}: {}", place_text(file, place), complaint));
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

// nullptr when `text` may be a key or a value of an event, else what it must be.
const char* complaint_about(std::string_view text) {
    if (text.empty() || text.size() > parse::kTextBytesMax) return "must have 1 to 256 bytes";
    const auto control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
    if (std::any_of(text.begin(), text.end(), control)) return "contains a control character";
    if (text.front() == ' ' || text.back() == ' ') return "has white space at its ends";
    return nullptr;
}

Result<void> check_text(std::string_view file, Place place, std::string_view key,
                        std::string_view text) {
    if (const auto* const complaint = complaint_about(text)) {
        return at(file, place, fmt::format("{}: \"{}\" {}", key, text, complaint));
    }
    return {};
}

Result<void> check_scalar(std::string_view file, const YamlNode& node, std::string_view key) {
    if (node.kind == YamlNode::Kind::scalar) return {};
    return at(file, node.place, fmt::format("{}: needs one value", key));
}

std::optional<parse::Field> default_field(std::string_view name) {
    for (const auto field : parse::kDefaultFields) {
        if (parse::to_string(field) == name) return field;
    }
    return std::nullopt;
}

std::span<const std::string_view> names_of(parse::Field field) {
    if (field == parse::Field::data_mode) return parse::kDataModeNames;
    if (field == parse::Field::environment) return parse::kEnvironmentNames;
    return {};
}

// The file's text without the newlines at its end.
Result<std::string> read_hash_key(const std::string& path) {
    constexpr std::string_view kKey = "privacy.hash_key_file";
    const auto advice = fmt::format("make one with: openssl rand -hex 32 > {}", path);
    const auto refuse = [&](std::string_view complaint) {
        return invalid(fmt::format("{}: {} {}; {}", kKey, path, complaint, advice));
    };
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        return errno_error(Errc::config_invalid, fmt::format("{}: {}", kKey, path), errno, advice);
    }
    if (!S_ISREG(status.st_mode)) return refuse("is not a regular file");
    std::ifstream stream(path, std::ios::binary);
    if (!stream) {
        return errno_error(Errc::config_invalid, fmt::format("{}: {}", kKey, path), errno,
                           "make it readable for this user");
    }
    // One byte more than may be, so that a longer file shows.
    std::string key(parse::kHashKeyBytesMax + 1, '\0');
    stream.read(key.data(), static_cast<std::streamsize>(key.size()));
    key.resize(static_cast<std::size_t>(stream.gcount()));
    while (key.ends_with('\n') || key.ends_with('\r')) key.pop_back();
    if (key.size() < parse::kHashKeyBytesMin || key.size() > parse::kHashKeyBytesMax) {
        return refuse(fmt::format("holds a key of {} bytes, outside [{}, {}]",
                                  key.size() > parse::kHashKeyBytesMax
                                      ? fmt::format("more than {}", parse::kHashKeyBytesMax)
                                      : fmt::format("{}", key.size()),
                                  parse::kHashKeyBytesMin, parse::kHashKeyBytesMax));
    }
    return key;
}

std::string json_map(const std::vector<std::pair<std::string_view, std::string_view>>& members) {
    std::string out;
    for (const auto& [key, value] : members) {
        out +=
            fmt::format("{}{}: {}", out.empty() ? "" : ", ", json_string(key), json_string(value));
    }
    return fmt::format("{{{}}}", out);
}

}  // namespace

Result<void> read_deny_fields(Config& config, const YamlNode& node, std::string_view file) {
    constexpr std::string_view kKey = "privacy.deny_fields";
    const auto refuse = [&](Place place, std::string_view complaint) {
        return at(file, place, fmt::format("{}: {}", kKey, complaint));
    };
    if (node.kind != YamlNode::Kind::list) {
        return refuse(node.place, "must be a list; [] for none");
    }
    if (node.items.size() > kDenyFieldsMax) {
        return refuse(node.place,
                      fmt::format("{} is outside [0, {}]", node.items.size(), kDenyFieldsMax));
    }
    std::vector<std::string> fields;
    for (const auto& item : node.items) {
        const auto scalar = check_scalar(file, item, kKey);
        if (!scalar) return scalar;
        const auto checked = check_text(file, item.place, kKey, item.text);
        if (!checked) return checked;
        for (const auto& row : parse::kFields) {
            if (lower(row.name) != lower(item.text)) continue;
            const auto identity =
                row.value == parse::Field::user_id || row.value == parse::Field::tenant_id;
            return refuse(item.place,
                          fmt::format("{} is a field with a rule of its own{}", item.text,
                                      identity ? "; use privacy.user_id or privacy.tenant_id: drop"
                                               : " and is never removed"));
        }
        fields.push_back(item.text);
    }
    config.events.privacy.deny_fields = std::move(fields);
    return {};
}

Result<void> read_model_aliases(Config& config, const YamlNode& node, std::string_view file) {
    constexpr std::string_view kKey = "events.model_aliases";
    const auto refuse = [&](Place place, std::string_view complaint) {
        return at(file, place, fmt::format("{}: {}", kKey, complaint));
    };
    auto& aliases = config.events.model_aliases;
    aliases.clear();
    if (node.kind == YamlNode::Kind::null) return {};
    if (node.kind != YamlNode::Kind::map) {
        return refuse(node.place, "must be a map of model names, such as {gpt-4.1: gpt-4-1}");
    }
    if (node.members.size() > kModelAliasesMax) {
        return refuse(node.place,
                      fmt::format("{} is outside [0, {}]", node.members.size(), kModelAliasesMax));
    }
    for (const auto& member : node.members) {
        const auto scalar = check_scalar(file, member.value, kKey);
        if (!scalar) return scalar;
        for (const auto text :
             {std::string_view(member.key), std::string_view(member.value.text)}) {
            const auto checked = check_text(file, member.place, kKey, text);
            if (!checked) return checked;
        }
        aliases.emplace(member.key, member.value.text);
    }
    for (const auto& member : node.members) {
        if (!aliases.contains(member.value.text)) continue;
        return refuse(member.value.place,
                      fmt::format("{} becomes {}, which is itself an alias; name the last one",
                                  member.key, member.value.text));
    }
    return {};
}

Result<parse::Defaults> read_defaults(const YamlNode& node, std::string_view key,
                                      std::string_view file) {
    if (node.kind != YamlNode::Kind::map) {
        return at(file, node.place,
                  fmt::format("{}: must be a map, such as {{environment: staging}}", key));
    }
    std::vector<std::string_view> known;
    for (const auto field : parse::kDefaultFields) known.push_back(parse::to_string(field));
    parse::Defaults defaults;
    for (const auto& member : node.members) {
        const auto field = default_field(member.key);
        if (!field) {
            return at(file, member.place,
                      fmt::format("{}.{}: has no default; allowed: {}", key, member.key,
                                  fmt::join(known, ", ")));
        }
        const auto name = fmt::format("{}.{}", key, member.key);
        const auto scalar = check_scalar(file, member.value, name);
        if (!scalar) return scalar.error();
        const auto checked = check_text(file, member.value.place, name, member.value.text);
        if (!checked) return checked.error();
        const auto allowed = names_of(*field);
        if (!allowed.empty() &&
            std::find(allowed.begin(), allowed.end(), member.value.text) == allowed.end()) {
            return at(file, member.value.place,
                      fmt::format("{}: \"{}\" is not known; allowed: {}", name, member.value.text,
                                  fmt::join(allowed, ", ")));
        }
        defaults.push_back({*field, member.value.text});
    }
    return defaults;
}

std::string show_deny_fields(const Config& config) {
    std::string out;
    for (const auto& field : config.events.privacy.deny_fields) {
        out += fmt::format("{}{}", out.empty() ? "" : ", ", json_string(field));
    }
    return fmt::format("[{}]", out);
}

std::string show_model_aliases(const Config& config) {
    std::vector<std::pair<std::string_view, std::string_view>> members;
    for (const auto& [from, to] : config.events.model_aliases) members.emplace_back(from, to);
    return json_map(members);
}

std::string show_defaults(const parse::Defaults& defaults) {
    std::vector<std::pair<std::string_view, std::string_view>> members;
    for (const auto& [field, value] : defaults) members.emplace_back(to_string(field), value);
    return json_map(members);
}

Result<void> settle_privacy(Config& config) {
    auto& privacy = config.events.privacy;
    const auto is = [&](parse::IdentityRule rule) {
        return privacy.user_id == rule || privacy.tenant_id == rule;
    };
    for (std::size_t i = 0; i < config.listen.listeners.size(); ++i) {
        const auto number = config.listen.listeners[i].defaults;
        if (number == 0 || privacy.tenant_id != parse::IdentityRule::drop) continue;
        for (const auto& [field, value] : config.events.defaults.at(number - 1U)) {
            if (field != parse::Field::tenant_id) continue;
            return invalid(fmt::format(
                "listeners[{}].defaults.tenantId: \"{}\" would be dropped by privacy.tenant_id: "
                "drop; remove one of them",
                i, value));
        }
    }
    if (!is(parse::IdentityRule::hash)) {
        if (!config.hash_key_file.empty()) {
            config.warnings.emplace_back(
                "privacy.hash_key_file is not used: neither privacy.user_id nor privacy.tenant_id "
                "is hash");
        }
        return {};
    }
    if (config.hash_key_file.empty()) {
        return invalid(
            "privacy.hash_key_file: is needed by hash; put at least 16 random bytes into a file, "
            "such as by openssl rand -hex 32, and give its path");
    }
    auto key = read_hash_key(config.hash_key_file);
    if (!key) return key.error();
    privacy.hash_key = *std::move(key);
    return {};
}

}  // namespace opsrelay::config
