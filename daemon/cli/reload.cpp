// `reload` makes the daemon take over a changed configuration.
#include <fmt/format.h>
#include <rapidjson/document.h>

#include "cli/commands.h"
#include "cli/dead_text.h"
#include "cli/json_fields.h"
#include "cli/spool_ask.h"
#include "config/fields.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
The daemon reads its file again, with the variables and flags it was started with, and takes over
what changed: all of it or, when anything is wrong or needs a restart, nothing. The README says
which keys need a restart. SIGHUP does the same, but only the log says how it ended.

Examples:
  opsrelay reload
  opsrelay reload --run-dir /run/opsrelay --output json

Exit codes: 0 reloaded; 1 failed; 2 usage, or the configuration is refused: nothing changed.)";

struct ReloadOptions {
    ClientFlags where;
    std::string timeout = "10s";
    Output output = Output::text;
};

int reload(const ReloadOptions& given, Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""min;
    const auto timeout = config::duration_field("--timeout", given.timeout, {1ms, 10min});
    if (!timeout) return fail(program, timeout.error());
    const auto target = find_daemon(given.where, program);
    if (!target) return fail(program, target.error());
    rapidjson::Document reply;
    const auto asked = ask_json(ask_daemon(*target, *timeout), "/reload", "{}", reply);
    if (!asked) return fail(program, asked.error());
    const auto* const changed = member(reply, "changed");
    if (given.output == Output::json) {
        fmt::print(program.out, "{{\"changed\":{}}}\n",
                   changed == nullptr ? "[]" : json_text(*changed));
        return 0;
    }
    std::string keys;
    if (changed != nullptr && changed->IsArray()) {
        for (const auto& key : changed->GetArray()) {
            keys += fmt::format("{}{}", keys.empty() ? "" : ", ", text(key));
        }
    }
    fmt::print(program.out, "reloaded: {}\n", keys.empty() ? "nothing changed" : keys);
    return 0;
}

}  // namespace

void add_reload(Command app, Program& program, Action& action) {
    const auto command =
        app.add_subcommand("reload", "Take over a changed configuration, or change nothing");
    const auto given = std::make_shared<ReloadOptions>();  // lives as long as options refer to it
    add_client_flags(command, given->where);
    command.add_option("--timeout", given->timeout, "Wait this long for the answer; default 10s")
        .type_name("DURATION");
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return reload(*given, program); };
    });
}

}  // namespace opsrelay::cli
