// `spool purge` gives up the records of a lane that is not configured any more.
#include <fmt/format.h>
#include <rapidjson/document.h>

#include "cli/commands.h"
#include "cli/spool_ask.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
A lane that the configuration lost keeps its records and goes on when it is configured again. This
ends them instead: they are not sent, and counted as dropped. Its dead letters stay (see `opsrelay
dead purge --all --lane`). A lane that is configured is refused while the daemon runs; with the
daemon stopped, --configured ends its records too.

Examples:
  opsrelay spool purge --lane europe --yes
  opsrelay spool purge --lane default --configured --yes --spool-dir /var/lib/opsrelay

Exit codes: 0 ok; 1 refused; 2 usage; 3 the spool is locked by a daemon that does not answer; 4
spool unusable.)";

struct PurgeOptions {
    SpoolFlags where;
    std::string lane;
    bool configured = false;
    bool yes = false;
    Output output = Output::text;
};

int purge(const PurgeOptions& given, Program& program) {
    if (!given.yes) {
        fmt::print(program.err,
                   "opsrelay: the records of lane {} would never be sent. Repeat with --yes\n",
                   given.lane);
        return kExitUsage;
    }
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    const auto body =
        fmt::format("{{\"lane\":{},\"configured\":{}}}", json_string(given.lane), given.configured);
    rapidjson::Document reply;
    const auto asked = ask_json(*ask, "/spool/purge", body, reply);
    if (!asked) return fail(program, asked.error());
    const rapidjson::Value& object = reply;
    const auto found = object.FindMember("purged");
    const auto purged =
        found != object.MemberEnd() && found->value.IsUint64() ? found->value.GetUint64() : 0;
    if (given.output == Output::json) {
        fmt::print(program.out, "{{\"purged\":{}}}\n", purged);
    } else {
        fmt::print(program.out, "{} records of lane {} purged\n", purged, given.lane);
    }
    return 0;
}

}  // namespace

void add_spool_purge(Command group, Program& program, Action& action) {
    const auto command =
        group.add_subcommand("purge", "Give up the records of a lane that is not configured");
    const auto given = std::make_shared<PurgeOptions>();  // lives as long as options refer to it
    add_spool_flags(command, given->where);
    command.add_option("--lane", given->lane, "The lane's name").required().type_name("NAME");
    command.add_flag("--configured", given->configured, "Although it is configured");
    command.add_flag("--yes", given->yes, "Do it");
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return purge(*given, program); };
    });
}

}  // namespace opsrelay::cli
