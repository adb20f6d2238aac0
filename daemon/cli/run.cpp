// `run` starts the daemon, `check` shows with what it would start.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "cli/commands.h"
#include "core/log.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kRunFooter = R"(
Settings come from the file, then from environment variables, then from flags; later ones win. The
variable of spool.max_bytes is OPSRELAY_SPOOL__MAX_BYTES. OPSRELAY_API_KEY_FILE names the file with
the API key. Without a key events are accepted and spooled until there is one.

Examples:
  opsrelay run
  opsrelay run --config /etc/opsrelay/opsrelay.yaml --log-format json
  opsrelay run --run-dir /tmp/relay --spool-dir /tmp/relay/spool --http-port 0 --admin-port off

SIGTERM and SIGINT end it gracefully, a second one at once. SIGHUP reloads the configuration, as
`opsrelay reload` does.
Exit codes: 0 ended as asked; 1 failed; 2 usage or configuration; 3 spool locked by another process;
4 spool unusable; 5 address in use; 6 storage failed at run time.)";

constexpr const char* kCheckFooter = R"(
Takes the flags of `run` and prints the configuration that `run` would use. The files that it names
(certificates, tokens, keys) are read too, and groups looked for. Warnings go to standard error.

Examples:
  opsrelay check
  opsrelay check --config opsrelay.yaml --output json
  opsrelay check --config opsrelay.yaml --no-files     # in CI, for another machine

Exit codes: 0 valid; 2 not valid: `run` would not start.)";

// mkdir -p; the mode is given only to a directory that is made here. Whether it was.
Result<bool> make_directory(const std::string& path, mode_t mode, Errc code,
                            std::string_view next) {
    struct stat status {};
    bool made = false;
    if (::stat(path.c_str(), &status) == 0) {
        if (!S_ISDIR(status.st_mode)) return errno_error(code, path, ENOTDIR, next);
    } else {
        std::error_code ignored;  // mkdir below names the cause
        std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
        if (::mkdir(path.c_str(), mode) == 0) {
            if (::chmod(path.c_str(), mode) != 0) return errno_error(code, path, errno, next);
            made = true;
        } else if (errno != EEXIST) {
            return errno_error(code, fmt::format("make directory {}", path), errno, next);
        }
    }
    if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK | X_OK, AT_EACCESS) == 0) return made;
    return errno_error(code, fmt::format("directory {} must be writable", path), errno, next);
}

Result<void> make_directories(config::Config& config) {
    const auto run = make_directory(config.run_dir, config::kRunDirMode, Errc::listener_failed,
                                    "choose another one with --run-dir, or change its owner");
    if (!run) return with_prefix(run.error(), "run_dir");
    config.run_dir_made = *run;
    const auto spool = make_directory(config.spool.dir, 0700, Errc::spool_unusable,
                                      "choose another one with --spool-dir, or change its owner");
    if (!spool) return with_prefix(spool.error(), "spool.dir");
    return {};
}

std::optional<std::string> absolute(const std::optional<std::string>& path) {
    if (!path || path->empty()) return path;
    return std::filesystem::absolute(*path).lexically_normal().string();
}

int run(const RunFlags& given, Program& program) {
    auto config = load(given, program);
    if (!config) return fail(program, config.error());
    log::configure(config->log_format, config->log_level);
    for (const auto& warning : config->warnings) log::warn("config", warning);
    const auto made = make_directories(*config);
    if (!made) return fail(program, made.error());
    return program.run(*config, [&given, &program] { return load(given, program); });
}

struct CheckOptions {
    RunFlags flags;
    bool no_files = false;
    Output output = Output::text;
};

int check(const CheckOptions& given, Program& program) {
    auto config = load(given.flags, program);
    if (!config) return fail(program, config.error());
    const auto files = given.no_files ? FilesReport{} : program.try_files(*config);
    if (files.unusable) return fail(program, *files.unusable);
    for (const auto& warning : files.warnings) config->warnings.push_back(warning);
    if (given.output == Output::json) {
        fmt::print(program.out, "{}", config::to_json(*config));
        return 0;
    }
    fmt::print(program.out, "{}", config::to_yaml(*config));
    for (const auto& warning : config->warnings) {
        fmt::print(program.err, "warning: {}\n", warning);
    }
    return 0;
}

}  // namespace

void add_run_flags(Command command, RunFlags& into) {
    const auto add = [command](const char* name, std::optional<std::string>& value,
                               const char* help, const char* type) {
        command.add_option(name, value, help).type_name(type);
    };
    auto& flags = into.flags;
    add("--config", into.file, "Configuration file; default /etc/opsrelay/opsrelay.yaml if present",
        "FILE");
    add("--run-dir", flags.run_dir, "Directory of the sockets", "DIR");
    add("--spool-dir", flags.spool_dir, "Directory of the spool", "DIR");
    add("--upstream-url", flags.upstream_url, "Where events are delivered", "URL");
    add("--api-key-file", flags.api_key_file, "File with the API key; re-read when it changes",
        "FILE");
    add("--http-port", flags.http_port, "Port for events over HTTP on loopback; 0: any free one",
        "N|off");
    add("--udp-port", flags.udp_port, "Port for events over UDP on loopback; 0: any free one",
        "N|off");
    add("--admin-port", flags.admin_port, "Port of /status, /metrics and probes; 0: any free one",
        "N|off");
    add("--metrics-port", flags.metrics_port,
        "Port of /metrics alone, see metrics.address; 0: any free one", "N|off");
    add("--log-format", flags.log_format, "Format of the log on standard error",
        "auto|logfmt|json");
    add("--log-level", flags.log_level, "The least severe level to log", "debug|info|warn|error");
}

Result<config::Config> load(const RunFlags& given, const Program& program) {
    config::Sources sources;
    sources.file = given.file;
    sources.default_file = program.default_file;
    sources.environment = program.environment;
    sources.flags = given.flags;
    sources.flags.run_dir = absolute(given.flags.run_dir);
    sources.flags.spool_dir = absolute(given.flags.spool_dir);
    sources.flags.api_key_file = absolute(given.flags.api_key_file);
    return config::load_config(sources);
}

void add_run(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("run", "Run the daemon in the foreground");
    const auto given = std::make_shared<RunFlags>();  // lives as long as options refer to it
    add_run_flags(command, *given);
    command.footer(kRunFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return run(*given, program); };
    });
}

void add_check(Command app, Program& program, Action& action) {
    const auto command =
        app.add_subcommand("check", "Validate the configuration and print the effective one");
    const auto given = std::make_shared<CheckOptions>();  // lives as long as options refer to it
    add_run_flags(command, given->flags);
    command.add_flag("--no-files", given->no_files,
                     "Do not read the files that it names; they are on another machine");
    add_output(command, given->output);
    command.footer(kCheckFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return check(*given, program); };
    });
}

}  // namespace opsrelay::cli
