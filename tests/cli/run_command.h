// Runs one command line with streams of its own.
#pragma once

#include <string>
#include <vector>

#include "cli/cli.h"

namespace opsrelay::cli {

/// What one command line printed and returned.
struct Outcome {
    int code = -1;
    std::string out;
    std::string err;
};

/// A program without a terminal, an environment, a default file and a daemon to run.
[[nodiscard]] Program bare_program();

/// Runs `dispatch` on a copy of `program` whose `out` and `err` are captured.
[[nodiscard]] Outcome run_command(const std::vector<std::string>& arguments,
                                  Program program = bare_program());

}  // namespace opsrelay::cli
