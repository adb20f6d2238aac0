// `pause` and `resume` stop sending from lanes, and go on.
#include <fmt/format.h>
#include <rapidjson/document.h>

#include "cli/commands.h"
#include "cli/json_fields.h"
#include "cli/spool_ask.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kPauseFooter = R"(
Events are still accepted and spooled; nothing is sent until `opsrelay resume`, restarts included:
the pause is on disk when the command returns. Requests under way finish. Without --lane all
configured lanes are paused. Without a daemon the spool itself is changed.

Examples:
  opsrelay pause
  opsrelay pause --lane europe

Exit codes: 0 ok; 1 refused; 2 usage; 3 the spool is locked by a daemon that does not answer; 4
spool unusable.)";

constexpr const char* kResumeFooter = R"(
Goes on sending from lanes that `opsrelay pause` stopped. A lane that waits for another reason, such
as a Retry-After, waits on.

Examples:
  opsrelay resume
  opsrelay resume --lane europe

Exit codes: 0 ok; 1 refused; 2 usage; 3 the spool is locked by a daemon that does not answer; 4
spool unusable.)";

struct PauseOptions {
    SpoolFlags where;
    std::string lane;
    Output output = Output::text;
};

int set_paused(const PauseOptions& given, bool paused, Program& program) {
    const auto ask = open_ask(given.where, program);
    if (!ask) return fail(program, ask.error());
    const auto body =
        given.lane.empty() ? "{}" : fmt::format("{{\"lane\":{}}}", json_string(given.lane));
    rapidjson::Document reply;
    const auto asked = ask_json(*ask, paused ? "/lanes/pause" : "/lanes/resume", body, reply);
    if (!asked) return fail(program, asked.error());
    std::string names;
    std::string quoted;
    if (const auto* const lanes = member(reply, "lanes"); lanes != nullptr && lanes->IsArray()) {
        for (const auto& lane : lanes->GetArray()) {
            const auto name = text(lane);
            names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
            quoted += fmt::format("{}{}", quoted.empty() ? "" : ",", json_string(name));
        }
    }
    if (given.output == Output::json) {
        fmt::print(program.out, "{{\"paused\":{},\"lanes\":[{}]}}\n", paused, quoted);
    } else {
        fmt::print(program.out, "{}: {}\n", paused ? "paused" : "resumed", names);
    }
    return 0;
}

void add(Command app, Program& program, Action& action, bool paused) {
    const auto command =
        app.add_subcommand(paused ? "pause" : "resume", paused ? "Stop sending; events are spooled"
                                                               : "Go on sending after a pause");
    const auto given = std::make_shared<PauseOptions>();  // lives as long as options refer to it
    add_spool_flags(command, given->where);
    command.add_option("--lane", given->lane, "Only this lane").type_name("NAME");
    add_output(command, given->output);
    command.footer(paused ? kPauseFooter : kResumeFooter);
    command.callback([given, paused, &program, &action] {
        action = [given, paused, &program] { return set_paused(*given, paused, program); };
    });
}

}  // namespace

void add_pause(Command app, Program& program, Action& action) { add(app, program, action, true); }

void add_resume(Command app, Program& program, Action& action) { add(app, program, action, false); }

}  // namespace opsrelay::cli
