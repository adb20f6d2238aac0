// The whole configuration: every stage's Options plus what belongs to the process. load_config() is
// the only way to one, so that a Config that exists is a valid one. Layers, later ones win:
// defaults, the YAML file, environment variables, flags of `run`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "core/unique_fd.h"
#include "core/units.h"
#include "forward/options.h"
#include "listen/options.h"
#include "parse/options.h"
#include "spool/options.h"

namespace opsrelay::config {

/// Read if it exists and no other file was asked for.
inline constexpr const char* kDefaultFile = "/etc/opsrelay/opsrelay.yaml";
/// Where a service run by root keeps its sockets and its spool.
inline constexpr const char* kSystemRunDir = "/run/opsrelay";
inline constexpr const char* kSystemSpoolDir = "/var/lib/opsrelay";
inline constexpr unsigned kRunDirMode = 0755;  // of one that is made
/// Names of the default sockets in the run directory.
inline constexpr const char* kStreamSocket = "telemetry.stream.sock";
inline constexpr const char* kAdminSocket = "admin.sock";

/// The lane that `upstream` is short for, and that listeners deliver to unless they name another.
inline constexpr const char* kDefaultLaneName = "default";

/// The read-only admin listener and the admin socket.
struct Admin {
    bool enabled = true;                // the IP listener; the socket is always there
    std::string address = "127.0.0.1";  // a loopback address
    std::uint16_t port = 8711;          // 0: any free port, reported once bound
    std::string socket = kAdminSocket;  // absolute after load_config()
};

/// The listener that serves /metrics and nothing else, for scrapes from outside: of a pod, only its
/// address can be reached. Any address may be given: metrics hold no content and no secret.
struct MetricsListener {
    bool enabled = false;
    std::string address = "127.0.0.1";
    std::uint16_t port = 8712;  // 0: any free port, reported once bound
};

/// A valid configuration. All paths are absolute; relative socket paths have been resolved against
/// the run directory. The directories need not exist.
struct Config {
    /// By name, at least one: where each lane delivers to.
    std::map<std::string, forward::Options, std::less<>> lanes;
    listen::Options listen;
    std::string run_dir;
    bool run_dir_made = false;  // by this process: not a key
    spool::Options spool;
    Bytes memory_max{64U << 20U};  // shared out among the options above (memory_plan.h)
    bool ephemeral = false;        // the spool dies with the pod: deliver before the end
    parse::Options events;
    std::string hash_key_file;  // its key is in events.privacy; read when a rule needs it
    milliseconds shutdown_deadline{20'000};
    Admin admin;
    MetricsListener metrics;
    log::Format log_format = log::Format::automatic;
    log::Level log_level = log::Level::info;
    /// What an operator should know although it is not an error; one sentence each, no secrets.
    std::vector<std::string> warnings;
};

/// What the process was started with. Tests make their own; the program calls take_environment().
struct Environment {
    /// OPSRELAY_*, XDG_RUNTIME_DIR, XDG_STATE_HOME, HOME, CREDENTIALS_DIRECTORY, and HTTPS_PROXY,
    /// HTTP_PROXY, NO_PROXY in either spelling, NO_COLOR, TERM; others are not looked at.
    std::map<std::string, std::string> variables;
    bool root = false;  // effective user id 0
};

/// Values of the flags of `run`, as text. Ports are a number or "off".
struct Flags {
    std::optional<std::string> run_dir;
    std::optional<std::string> spool_dir;
    std::optional<std::string> upstream_url;
    std::optional<std::string> api_key_file;
    std::optional<std::string> http_port;
    std::optional<std::string> udp_port;
    std::optional<std::string> admin_port;
    std::optional<std::string> metrics_port;
    std::optional<std::string> log_format;
    std::optional<std::string> log_level;
};

/// Everything a configuration is made of.
struct Sources {
    /// From --config. Unset: OPSRELAY_CONFIG, else `default_file`. A file that was asked for must
    /// exist.
    std::optional<std::string> file;
    std::string default_file = kDefaultFile;
    Environment environment;
    Flags flags;
};

/// Reads and checks all layers. Error: config_invalid, with file:line:column, variable or flag,
/// then key, value and what is allowed. Reads the file and the one of privacy.hash_key_file;
/// touches nothing else.
[[nodiscard]] Result<Config> load_config(const Sources& sources);

/// The only reader of the process environment. Takes OPSRELAY_API_KEY and OPSRELAY_UPSTREAM__PROXY
/// out of it, so that neither a child nor /proc/PID/environ shows key or password. Call once,
/// before threads start.
[[nodiscard]] Environment take_environment();

/// What a parent passed: see take_inherited().
struct Inherited {
    std::vector<NamedFd> sockets;     // close-on-exec from now on
    std::optional<long> for_process;  // set: they are meant for that one, so none was taken
};

/// The sockets that a parent passed to this process, from descriptor `first` on, as
/// sd_listen_fds(3) has it: LISTEN_PID, LISTEN_FDS and, for messages, LISTEN_FDNAMES, which all
/// leave the environment. Error: config_invalid, naming the variable, or the descriptor that is not
/// open. Call once, before anything opens a file that stays open.
[[nodiscard]] Result<Inherited> take_inherited(int first = 3);

/// The effective configuration as YAML that load_config() reads again, secrets shown as ***.
[[nodiscard]] std::string to_yaml(const Config& config);
/// The same as one JSON object; `warnings` is an array beside `config`.
[[nodiscard]] std::string to_json(const Config& config);

}  // namespace opsrelay::config
