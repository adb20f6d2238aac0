// The command line: which subcommand, with which options. The daemon itself is handed in by
// main.cpp, so that neither this folder nor its tests link it.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/admin_client.h"
#include "cli/files_report.h"
#include "cli/upstream_report.h"
#include "config/config.h"

namespace opsrelay::cli {

/// Reads the configuration of `run` again.
using LoadConfig = std::function<Result<config::Config>()>;
/// Runs the daemon until it ends; returns the exit code of the process.
using RunDaemon = std::function<int(const config::Config&, const LoadConfig&)>;

/// Sends one request of an operator, a path and a JSON body, and returns the answer: to the daemon
/// over admin.sock, or to a spool that no daemon has open.
using Ask = std::function<Result<HttpReply>(std::string_view path, std::string_view body)>;
/// Opens the spool itself. Errors: spool_locked, spool_unusable.
using OpenSpool = std::function<Result<Ask>(const config::Config&)>;

/// What a command may touch. Tests make their own; the program uses its own streams and
/// environment.
struct Program {
    std::FILE* out;
    std::FILE* err;
    int in = 0;                    // descriptor that `send` reads from
    bool in_is_terminal = false;   // then `send` does not wait for input
    bool err_is_terminal = false;  // then `send` shows its progress
    bool out_is_terminal = false;  // then there is colour
    config::Environment environment;
    std::string default_file = config::kDefaultFile;
    RunDaemon run;
    OpenSpool open_spool;
    TryUpstream try_upstream;
    TryFiles try_files;
};

/// Parses the command line and runs the subcommand. Takes the environment first. Exit codes: 0 ok,
/// 1 failed or not ready, 2 usage or configuration, 3 to 6 from `run`.
[[nodiscard]] int dispatch(int argc, char** argv, const RunDaemon& run, const OpenSpool& open_spool,
                           const TryUpstream& try_upstream, const TryFiles& try_files);
/// The same with everything injected; `arguments` without the name of the program.
[[nodiscard]] int dispatch(const std::vector<std::string>& arguments, Program& program);

}  // namespace opsrelay::cli
