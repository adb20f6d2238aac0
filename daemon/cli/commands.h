// One function per subcommand: it adds the subcommand and sets `action` when it was chosen.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/cli.h"
#include "cli/command.h"
#include "config/config.h"

namespace opsrelay::cli {

using Action = std::function<int()>;

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

enum class Output : std::uint8_t { text, json };

void add_run(Command app, Program& program, Action& action);
void add_check(Command app, Program& program, Action& action);
void add_send(Command app, Program& program, Action& action);
void add_status(Command app, Program& program, Action& action);
void add_dead(Command app, Program& program, Action& action);
void add_spool(Command app, Program& program, Action& action);
void add_pause(Command app, Program& program, Action& action);
void add_resume(Command app, Program& program, Action& action);
void add_flush(Command app, Program& program, Action& action);
void add_reload(Command app, Program& program, Action& action);
void add_tail(Command app, Program& program, Action& action);
void add_doctor(Command app, Program& program, Action& action);
void add_completion(Command app, Program& program, Action& action);
void add_man(Command app, Program& program, Action& action);
void add_version(Command app, Program& program, Action& action);

/// Members of the `spool` group.
void add_spool_purge(Command group, Program& program, Action& action);
void add_spool_export(Command group, Program& program, Action& action);
void add_spool_repair(Command group, Program& program, Action& action);
void add_spool_stat(Command group, Program& program, Action& action);
void add_spool_verify(Command group, Program& program, Action& action);

/// `--output text|json`.
void add_output(Command command, Output& output);

/// --config and the flags of `run`, which `check` takes too.
struct RunFlags {
    std::optional<std::string> file;
    config::Flags flags;
};
void add_run_flags(Command command, RunFlags& into);
/// Loads the configuration of `run`. Relative paths given as flags are made absolute.
[[nodiscard]] Result<config::Config> load(const RunFlags& given, const Program& program);

/// Prints "opsrelay: context" and returns the exit code of the error.
[[nodiscard]] int fail(Program& program, const Error& error);

}  // namespace opsrelay::cli
