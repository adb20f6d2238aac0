#include "cli/locate.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/connect.h"

namespace opsrelay::cli {

namespace {

// The file and the environment only: client commands have no flags of `run`.
Result<config::Config> load(const ClientFlags& flags, const Program& program) {
    config::Sources sources;
    sources.file = flags.file;
    sources.default_file = program.default_file;
    sources.environment = program.environment;
    auto config = config::load_config(sources);
    if (!config) {
        return Error{config.error().code, config.error().context +
                                              "; correct it, or say where the daemon is with "
                                              "--run-dir"};
    }
    return config;
}

void add_once(std::vector<std::string>& paths, std::string path) {
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) {
        paths.push_back(std::move(path));
    }
}

std::string absolute(const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
}

std::string join(const std::string& directory, const char* name) {
    return (std::filesystem::path(directory) / name).string();
}

}  // namespace

void add_client_flags(Command command, ClientFlags& into) {
    command.add_option("--run-dir", into.run_dir, "Directory of the daemon's sockets")
        .type_name("DIR");
    command
        .add_option("--config", into.file,
                    "The daemon's configuration file, to find its sockets in")
        .type_name("FILE")
        .excludes("--run-dir");
}

Result<std::vector<std::string>> stream_sockets(const ClientFlags& flags, const Program& program) {
    std::vector<std::string> paths;
    if (flags.run_dir) {
        paths.push_back(join(absolute(*flags.run_dir), config::kStreamSocket));
        return paths;
    }
    const auto config = load(flags, program);
    if (!config) return config.error();
    for (const auto& listener : config->listen.listeners) {
        if (listener.kind == ListenerKind::unix_stream) add_once(paths, listener.path);
    }
    if (paths.empty()) {
        return Error{Errc::config_invalid,
                     "the configuration has no unix_stream listener; add one, or give --socket"};
    }
    if (!program.environment.root)
        add_once(paths, join(config::kSystemRunDir, config::kStreamSocket));
    return paths;
}

Result<std::vector<AdminTarget>> admin_targets(const ClientFlags& flags,
                                               std::optional<std::uint16_t> port,
                                               const Program& program) {
    std::vector<AdminTarget> targets;
    const config::Admin defaults;
    if (flags.run_dir) {
        targets.push_back({join(absolute(*flags.run_dir), config::kAdminSocket), {}, 0});
        if (port) targets.push_back({{}, defaults.address, *port});
        return targets;
    }
    if (port) {
        targets.push_back({{}, defaults.address, *port});
        return targets;
    }
    const auto config = load(flags, program);
    if (!config) return config.error();
    std::vector<std::string> sockets{config->admin.socket};
    if (!program.environment.root) {
        add_once(sockets, join(config::kSystemRunDir, config::kAdminSocket));
    }
    for (auto& socket : sockets) targets.push_back({std::move(socket), {}, 0});
    if (config->admin.enabled && config->admin.port != 0) {
        targets.push_back({{}, config->admin.address, config->admin.port});
    }
    return targets;
}

void Attempts::add(const AdminTarget& target, const Error& error) {
    code_ = error.code;
    tried_ += fmt::format("; tried {}", error.context);
    denied_ |= !target.socket.empty() && is_denied(target.socket);
}

Error Attempts::error(std::string_view next) const {
    if (denied_) {
        return {code_, fmt::format("this user may not ask the daemon{}; run this as root or as the "
                                   "daemon's user",
                                   tried_)};
    }
    return {code_, fmt::format("the daemon does not answer{}; {}", tried_, next)};
}

}  // namespace opsrelay::cli
