// The command line: which subcommand, with which options. The daemon itself is handed in by
// main.cpp, so that neither this folder nor its tests link it.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "config/config.h"

namespace opsrelay::cli {

/// Runs the daemon until it ends; returns the exit code of the process.
using RunDaemon = std::function<int(const config::Config&)>;

/// What a command may touch. Tests make their own; the program uses its own streams and
/// environment.
struct Program {
    std::FILE* out;
    std::FILE* err;
    int in = 0;                    // descriptor that `send` reads from
    bool in_is_terminal = false;   // then `send` does not wait for input
    bool err_is_terminal = false;  // then `send` shows its progress
    config::Environment environment;
    std::string default_file = config::kDefaultFile;
    RunDaemon run;
};

/// Parses the command line and runs the subcommand. Takes the environment first. Exit codes: 0 ok,
/// 1 failed or not ready, 2 usage or configuration, 3 to 6 from `run`.
[[nodiscard]] int dispatch(int argc, char** argv, const RunDaemon& run);
/// The same with everything injected; `arguments` without the name of the program.
[[nodiscard]] int dispatch(const std::vector<std::string>& arguments, Program& program);

}  // namespace opsrelay::cli
