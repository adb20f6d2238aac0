// One function per subcommand: it adds the subcommand and sets `action` when it was chosen.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/cli.h"
#include "config/config.h"

namespace CLI {
class App;
}

namespace opsrelay::cli {

using Action = std::function<int()>;

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

enum class Output : std::uint8_t { text, json };

void add_run(CLI::App& app, Program& program, Action& action);
void add_check(CLI::App& app, Program& program, Action& action);
void add_send(CLI::App& app, Program& program, Action& action);
void add_status(CLI::App& app, Program& program, Action& action);
void add_dead(CLI::App& app, Program& program, Action& action);
void add_spool(CLI::App& app, Program& program, Action& action);
void add_pause(CLI::App& app, Program& program, Action& action);
void add_resume(CLI::App& app, Program& program, Action& action);
void add_flush(CLI::App& app, Program& program, Action& action);
void add_reload(CLI::App& app, Program& program, Action& action);
void add_tail(CLI::App& app, Program& program, Action& action);
void add_doctor(CLI::App& app, Program& program, Action& action);
void add_completion(CLI::App& app, Program& program, Action& action);
void add_man(CLI::App& app, Program& program, Action& action);
void add_version(CLI::App& app, Program& program, Action& action);

/// Members of the `spool` group.
void add_spool_purge(CLI::App& group, Program& program, Action& action);
void add_spool_export(CLI::App& group, Program& program, Action& action);
void add_spool_repair(CLI::App& group, Program& program, Action& action);
void add_spool_stat(CLI::App& group, Program& program, Action& action);
void add_spool_verify(CLI::App& group, Program& program, Action& action);

/// `--output text|json`.
void add_output(CLI::App& command, Output& output);

/// --config and the flags of `run`, which `check` takes too.
struct RunFlags {
    std::optional<std::string> file;
    config::Flags flags;
};
void add_run_flags(CLI::App& command, RunFlags& into);
/// Loads the configuration of `run`. Relative paths given as flags are made absolute.
[[nodiscard]] Result<config::Config> load(const RunFlags& given, const Program& program);

/// Prints "opsrelay: context" and returns the exit code of the error.
[[nodiscard]] int fail(Program& program, const Error& error);

}  // namespace opsrelay::cli
