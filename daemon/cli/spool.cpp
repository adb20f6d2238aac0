// `spool` looks after the stored records.

#include "cli/commands.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
`purge` asks the daemon over admin.sock; without a daemon it opens the spool itself. The others work
on a spool that no daemon has open, and only `repair --write` changes anything. Its directory comes
from --spool-dir, else from the configuration, as for `run`.

Examples:
  opsrelay spool stat --output json
  opsrelay spool verify --spool-dir /var/lib/opsrelay
  opsrelay spool export --lane default > events.ndjson
  opsrelay spool repair          what would be taken back; with --write it is
  opsrelay spool purge --lane europe --yes

Exit codes: 0 ok; 1 damage found, or failed; 2 usage or configuration; 3 a daemon has it open;
4 no spool, or a newer format.)";

}  // namespace

void add_spool(Command app, Program& program, Action& action) {
    const auto group = app.add_subcommand("spool", "The records that wait to be sent");
    group.require_subcommand();
    group.footer(kFooter);
    add_spool_export(group, program, action);
    add_spool_purge(group, program, action);
    add_spool_repair(group, program, action);
    add_spool_stat(group, program, action);
    add_spool_verify(group, program, action);
}

}  // namespace opsrelay::cli
