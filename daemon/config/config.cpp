#include "config/config.h"

#include <fmt/format.h>

#include <sys/stat.h>
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include "config/event_rules.h"
#include "config/fields.h"
#include "config/keys.h"
#include "config/lanes.h"
#include "config/listeners.h"
#include "config/memory_plan.h"
#include "config/yaml_reader.h"
#include "spool/disk_plan.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kPrefix = "OPSRELAY_";
constexpr std::string_view kFileVariable = "OPSRELAY_CONFIG";
constexpr std::string_view kSecretVariable = "OPSRELAY_API_KEY";
constexpr std::string_view kSecretFileVariable = "OPSRELAY_API_KEY_FILE";

Error invalid(std::string context) { return {Errc::config_invalid, std::move(context)}; }

std::string variable(const Environment& environment, std::string_view name) {
    const auto found = environment.variables.find(std::string(name));
    return found == environment.variables.end() ? std::string{} : found->second;
}

// A regular file's text; nullopt when it does not exist and need not.
Result<std::optional<std::string>> read_file(const std::string& path, bool required) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        const int error = errno;
        if (!required && (error == ENOENT || error == ENOTDIR)) return std::optional<std::string>{};
        return errno_error(Errc::config_invalid, fmt::format("config file {}", path), error,
                           "give another one with --config");
    }
    if (!S_ISREG(status.st_mode)) {
        return invalid(
            fmt::format("config file {}: is not a regular file; give another one with "
                        "--config",
                        path));
    }
    if (static_cast<std::uint64_t>(status.st_size) > kFileBytesMax) {
        return invalid(fmt::format("config file {}: {} bytes, more than {}", path, status.st_size,
                                   kFileBytesMax));
    }
    std::ifstream stream(path, std::ios::binary);
    if (!stream) {
        return errno_error(Errc::config_invalid, fmt::format("config file {}", path), errno,
                           "make it readable for this user, or give another one with --config");
    }
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(stream.gcount()));
    return std::optional<std::string>(std::move(text));
}

// The names that may stand at the top of the file.
std::vector<std::string_view> top_names() {
    std::vector<std::string_view> names{"lanes", "listeners"};
    for (const auto& key : keys()) {
        const auto name = key.name.substr(0, key.name.find('.'));
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
    return names;
}

bool is_section(std::string_view name) {
    return std::any_of(keys().begin(), keys().end(), [name](const Key& key) {
        return key.name.size() > name.size() && key.name.starts_with(name) &&
               key.name[name.size()] == '.';
    });
}

class Loader {
public:
    explicit Loader(const Sources& sources) : sources_(sources) {}

    Result<Config> load() {
        for (const auto step : {&Loader::read_file_layer, &Loader::read_environment_layer,
                                &Loader::read_flag_layer, &Loader::set_directories}) {
            const auto done = (this->*step)();
            if (!done) return done.error();
        }
        for (const auto settle : {settle_listeners, settle_privacy}) {
            const auto settled = settle(config_);
            if (!settled) return settled.error();
        }
        const auto settled = settle_lanes(config_, sources_.environment);
        if (!settled) return settled.error();
        const auto known = check_listener_lanes(config_, lane_places_);
        if (!known) return known.error();
        const auto fit = check_sizes();
        if (!fit) return fit.error();
        add_warnings();
        return std::move(config_);
    }

private:
    Result<void> read_file_layer() {
        config_.listen.listeners = default_listeners();
        const auto from_environment = variable(sources_.environment, kFileVariable);
        const bool asked = sources_.file.has_value() || !from_environment.empty();
        file_ = sources_.file.value_or(from_environment.empty() ? sources_.default_file
                                                                : from_environment);
        if (file_.empty()) return {};
        const auto text = read_file(file_, asked);
        if (!text) return text.error();
        if (!text->has_value()) return {};
        const auto tree = read_yaml(**text, file_);
        if (!tree) return tree.error();
        return read_tree(*tree);
    }

    Error at(Place place, std::string_view complaint) const {
        return invalid(fmt::format("{}: {}", place_text(file_, place), complaint));
    }

    Result<void> read_tree(const YamlNode& tree) {
        if (tree.kind == YamlNode::Kind::null) return {};
        if (tree.kind != YamlNode::Kind::map)
            return at(tree.place, "the file must be a map of keys");
        if (auto once = check_default_once(tree, file_); !once) return once;
        for (const auto& member : tree.members) {
            const auto done = read_top(member);
            if (!done) return done.error();
        }
        return {};
    }

    Result<void> read_top(const YamlNode::Member& member) {
        if (member.key == "listeners") {
            return read_listeners(config_, member.value, file_, lane_places_);
        }
        if (member.key == "lanes") return read_lanes(config_, member.value, file_);
        if (const auto* const key = find_key(member.key); key && !is_section(member.key)) {
            return read_value(*key, member.value);
        }
        if (!is_section(member.key)) {
            auto candidates = top_names();
            for (const auto name : key_names()) {
                if (name.find('.') != std::string_view::npos) candidates.push_back(name);
            }
            if (nearest(member.key, candidates)) {
                return at(member.place, unknown_key(member.key, candidates));
            }
            return at(member.place, unknown_key(member.key, top_names()));
        }
        if (member.value.kind == YamlNode::Kind::null) return {};
        if (member.value.kind != YamlNode::Kind::map) {
            return at(member.value.place, fmt::format("{}: must be a map of keys", member.key));
        }
        for (const auto& inner : member.value.members) {
            const auto name = fmt::format("{}.{}", member.key, inner.key);
            const auto* const key = find_key(name);
            if (key == nullptr) return at(inner.place, unknown_in_section(name, member.key));
            const auto done = read_value(*key, inner.value);
            if (!done) return done.error();
        }
        return {};
    }

    // Keys of the section come first; only then what is alike elsewhere.
    static std::string unknown_in_section(std::string_view name, std::string_view section) {
        std::vector<std::string_view> inside;
        for (const auto known : key_names()) {
            if (known.starts_with(section) && known.substr(section.size()).starts_with('.')) {
                inside.push_back(known);
            }
        }
        const auto all = key_names();
        const bool elsewhere = !nearest(name, inside) && nearest(name, all);
        return unknown_key(name, elsewhere ? all : inside);
    }

    Result<void> read_value(const Key& key, const YamlNode& value) {
        if (key.read != nullptr) return key.read(config_, value, file_);
        const bool null = value.kind == YamlNode::Kind::null;
        if (value.kind != YamlNode::Kind::scalar && !(null && key.nullable)) {
            return at(value.place, fmt::format("{}: needs one value", key.name));
        }
        const auto done = key.assign(config_, value.text);
        if (!done) return at(value.place, done.error().context);
        return {};
    }

    Result<void> read_environment_layer();
    Result<void> read_secret(std::string_view text);
    Result<void> read_flag_layer();
    Result<void> set_directories();
    Result<void> check_sizes();
    void add_warnings();

    const Sources& sources_;
    std::string file_;
    std::vector<std::string> lane_places_;  // of the listeners in the file
    Config config_;
};

// A Kubernetes Service or a linked container called opsrelay-something puts such variables into
// every pod: they are not ours and must not stop the daemon.
bool is_service_link(std::string_view name, std::string_view value) {
    if (name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") ||
        name.find("_SERVICE_PORT_") != std::string_view::npos) {
        return true;
    }
    for (const std::string_view protocol : {"_TCP", "_UDP", "_SCTP"}) {
        const auto at = name.rfind(protocol);
        if (at == std::string_view::npos) continue;
        const auto rest = name.substr(at + protocol.size());
        const bool part = rest.empty() || rest == "_PROTO" || rest == "_PORT" || rest == "_ADDR";
        const auto port = name.substr(0, at).rfind("PORT_");
        if (part && port != std::string_view::npos) return true;
    }
    return name.ends_with("_PORT") && value.find("://") != std::string_view::npos;
}

Error file_only(std::string_view variable) {
    return invalid(
        fmt::format("{}: lists and maps are read from the file only; see --config", variable));
}

Result<void> Loader::read_environment_layer() {
    std::vector<std::string> known{std::string(kFileVariable), std::string(kSecretVariable),
                                   std::string(kSecretFileVariable)};
    for (const auto& key : keys()) {
        if (key.read == nullptr) known.push_back(variable_name(key.name));
    }
    for (const auto& [name, text] : sources_.environment.variables) {
        if (!name.starts_with(kPrefix) || name == kFileVariable) continue;
        if (name == kSecretVariable) {
            const auto done = read_secret(text);
            if (!done) return done.error();
            continue;
        }
        const Key* key = name == kSecretFileVariable ? find_key("upstream.api_key_file") : nullptr;
        for (const auto& candidate : keys()) {
            if (key == nullptr && variable_name(candidate.name) == name) key = &candidate;
        }
        if (key == nullptr && is_service_link(name, text)) continue;
        if (key == nullptr) {
            if (name.starts_with("OPSRELAY_LISTENERS") || name.starts_with("OPSRELAY_LANES")) {
                return file_only(name);
            }
            const std::vector<std::string_view> views(known.begin(), known.end());
            const auto near = nearest(name, views);
            return invalid(fmt::format(
                "environment variable {} is unknown; {}", name,
                near ? fmt::format("did you mean {}?", *near) : std::string("unset it")));
        }
        if (key->read != nullptr) return file_only(name);
        const auto done = key->assign(config_, text);
        if (!done) return with_prefix(done.error(), name);
    }
    const auto own = variable_name("upstream.api_key_file");
    const auto& variables = sources_.environment.variables;
    const auto a = variables.find(own);
    const auto b = variables.find(std::string(kSecretFileVariable));
    if (a != variables.end() && b != variables.end() && a->second != b->second) {
        return invalid(fmt::format("{} and {} differ; set one of them", own, kSecretFileVariable));
    }
    return {};
}

// The value never appears in a message.
Result<void> Loader::read_secret(std::string_view text) {
    while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
    const bool plain =
        std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (!plain || text.size() > 4096) {
        return invalid(
            fmt::format("{}: *** is not an API key: it must be at most 4096 visible "
                        "ASCII characters",
                        kSecretVariable));
    }
    config_.lanes[kDefaultLaneName].api_key = Secret(text);
    return {};
}

// Of Admin or MetricsListener; the address stays.
template <typename Listener>
Result<void> set_own_port(Listener& listener, std::string_view flag,
                          const std::optional<std::string>& text) {
    if (!text) return {};
    listener.enabled = *text != "off";
    if (!listener.enabled) return {};
    const auto port = port_field(flag, *text);
    if (!port) return invalid(port.error().context + "; or write off");
    listener.port = *port;
    return {};
}

Result<void> Loader::read_flag_layer() {
    struct Flag {
        std::string_view name;
        std::string_view key;
        const std::optional<std::string>& text;
    };
    const auto& given = sources_.flags;
    const Flag scalars[] = {
        {"--run-dir", "run_dir", given.run_dir},
        {"--spool-dir", "spool.dir", given.spool_dir},
        {"--upstream-url", "upstream.url", given.upstream_url},
        {"--api-key-file", "upstream.api_key_file", given.api_key_file},
        {"--log-format", "log.format", given.log_format},
        {"--log-level", "log.level", given.log_level},
    };
    for (const auto& flag : scalars) {
        if (!flag.text) continue;
        const auto done = find_key(flag.key)->assign(config_, *flag.text);
        if (!done) return with_prefix(done.error(), flag.name);
    }
    auto& listeners = config_.listen.listeners;
    if (given.http_port) {
        const auto done = set_port(listeners, ListenerKind::http, "--http-port", *given.http_port);
        if (!done) return done;
    }
    if (given.udp_port) {
        const auto done = set_port(listeners, ListenerKind::udp, "--udp-port", *given.udp_port);
        if (!done) return done;
    }
    auto admin = set_own_port(config_.admin, "--admin-port", given.admin_port);
    if (!admin) return admin;
    return set_own_port(config_.metrics, "--metrics-port", given.metrics_port);
}

// XDG base directory specification: a relative path in these variables is to be ignored.
std::string xdg(const Environment& environment, std::string_view name) {
    auto path = variable(environment, name);
    return path.starts_with('/') ? path : std::string{};
}

Result<void> Loader::set_directories() {
    const auto& environment = sources_.environment;
    if (environment.root) {
        if (config_.run_dir.empty()) config_.run_dir = kSystemRunDir;
        if (config_.spool.dir.empty()) config_.spool.dir = kSystemSpoolDir;
        return {};
    }
    auto state = xdg(environment, "XDG_STATE_HOME");
    if (state.empty()) {
        const auto home = xdg(environment, "HOME");
        if (!home.empty()) state = home + "/.local/state";
    }
    const auto runtime = xdg(environment, "XDG_RUNTIME_DIR");
    if (config_.spool.dir.empty()) {
        if (state.empty()) {
            return invalid(
                "spool.dir: no default, neither XDG_STATE_HOME nor HOME is set; give "
                "--spool-dir or OPSRELAY_SPOOL__DIR");
        }
        config_.spool.dir = state + "/opsrelay";
    }
    if (config_.run_dir.empty()) {
        if (!runtime.empty()) {
            config_.run_dir = runtime + "/opsrelay";
        } else if (!state.empty()) {
            config_.run_dir = state + "/opsrelay/run";
        } else {
            return invalid(
                "run_dir: no default, neither XDG_RUNTIME_DIR nor HOME is set; give "
                "--run-dir or OPSRELAY_RUN_DIR");
        }
    }
    return {};
}

Result<void> Loader::check_sizes() {
    const auto stall = config_.spool.stall_buffer;
    const Bytes quarter{config_.spool.bytes_max.count / 4};
    if (stall > quarter) {
        return invalid(fmt::format(
            "memory.stall_buffer: {} is more than a quarter of "
            "spool.max_bytes ({}); at most {}",
            format_bytes(stall), format_bytes(config_.spool.bytes_max), format_bytes(quarter)));
    }
    const auto ids = spool::plan_disk(config_.spool).ids;
    MemoryNeeds needs{config_.memory_max, stall, ids, config_.lanes.size(), 0, 0};
    for (const auto& [name, upstream] : config_.lanes) {
        const bool tls = upstream.url.starts_with("https://");
        (tls ? needs.tls_connections : needs.plain_connections) += upstream.connections;
    }
    const auto plan = plan_memory(needs);
    if (!plan) return plan.error();
    config_.spool.write_buffers = plan->write_buffers;
    config_.spool.block_cache = plan->block_cache;
    config_.spool.ids.filters_max = plan->filters;
    config_.spool.ids.seal_ids = plan->table_ids;
    if (config_.listen.http_body_max > stall) {
        return invalid(fmt::format("http.max_body: {} is more than memory.stall_buffer ({})",
                                   format_bytes(config_.listen.http_body_max),
                                   format_bytes(stall)));
    }
    if (config_.spool.commit_gap * 2 > config_.listen.http_ack_timeout) {
        return invalid(
            fmt::format("spool.commit_gap: {} is more than half of http.ack_timeout "
                        "({}): no HTTP request would be confirmed in time",
                        format_duration(config_.spool.commit_gap),
                        format_duration(config_.listen.http_ack_timeout)));
    }
    return {};
}

void Loader::add_warnings() {
    auto& warnings = config_.warnings;
    if (config_.listen.listeners.empty()) {
        warnings.emplace_back("no listeners: no event can be received");
    }
    const auto& spool = config_.spool;
    const auto plan = spool::plan_disk(spool);
    if (plan.ids < spool.ids.ids_max) {
        warnings.push_back(
            fmt::format("dedupe.max_ids: {} ids would take too much of spool.max_bytes ({}); "
                        "{} are remembered",
                        spool.ids.ids_max, format_bytes(spool.bytes_max), plan.ids));
    }
    if (plan.dead < spool.dead_bytes_max) {
        warnings.push_back(
            fmt::format("spool.dead_max_bytes: {} would take too much of spool.max_bytes ({}); "
                        "lanes park at {}",
                        format_bytes(spool.dead_bytes_max), format_bytes(spool.bytes_max),
                        format_bytes(Bytes{plan.dead.count >> 10U << 10U})));
    }
}

}  // namespace

Result<Config> load_config(const Sources& sources) { return Loader(sources).load(); }

}  // namespace opsrelay::config
