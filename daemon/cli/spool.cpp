// `spool` looks after the stored records.
#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Asks the daemon over admin.sock; without a daemon the spool itself is opened.

Examples:
  opsrelay spool purge --lane europe --yes)";

}  // namespace

void add_spool(CLI::App& app, Program& program, Action& action) {
    auto* const group = app.add_subcommand("spool", "The records that wait to be sent");
    group->require_subcommand(1);
    group->footer(kFooter);
    add_spool_purge(*group, program, action);
}

}  // namespace opsrelay::cli
