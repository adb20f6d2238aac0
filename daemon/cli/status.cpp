// `status` shows what the daemon is doing and serves as exec probe.
#include <fmt/format.h>
#include <rapidjson/document.h>

#include <CLI/CLI.hpp>

#include "cli/admin_client.h"
#include "cli/commands.h"
#include "cli/locate.h"
#include "cli/status_text.h"
#include "config/fields.h"
#include "core/clock.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Asks the daemon over admin.sock in its run directory, else over its admin port.

Examples:
  opsrelay status
  opsrelay status --output json --run-dir /run/opsrelay
  opsrelay status --ready        as readiness probe: exit 0 while events are accepted
  opsrelay status --live         as liveness probe: exit 0 while the daemon answers

Exit codes: 0 ok; 1 not reachable, not ready or not live; 2 usage.)";

struct StatusOptions {
    ClientFlags where;
    std::optional<std::uint16_t> admin_port;
    std::string timeout = "3s";
    bool ready = false;
    bool live = false;
    Output output = Output::text;
};

// The first target that answers; else an error that names all that were tried.
Result<HttpReply> ask(const StatusOptions& given, std::string_view path, const Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""min;
    const auto timeout = config::duration_field("--timeout", given.timeout, {1ms, 10min});
    if (!timeout) return timeout.error();
    const auto targets = admin_targets(given.where, given.admin_port, program);
    if (!targets) return targets.error();
    const SystemClock clock;
    const auto due = clock.now() + *timeout;
    Error error{Errc::io, "the daemon does not answer"};
    for (const auto& target : *targets) {
        auto reply = http_get(target, path, clock, due);
        if (reply) return reply;
        error.code = reply.error().code;
        error.context += fmt::format("; tried {}", reply.error().context);
    }
    error.context +=
        "; start it with `opsrelay run`, or say where it is with --run-dir or "
        "--admin-port";
    return error;
}

// Reasons as lines; a body of another shape as it is.
std::string probe_text(const std::string& body) {
    rapidjson::Document document;
    document.Parse(body.data(), body.size());
    if (!document.HasParseError() && document.IsObject()) {
        const rapidjson::Value& object = document;
        const auto reasons = object.FindMember("reasons");
        if (reasons != object.MemberEnd() && reasons->value.IsArray()) {
            std::string out;
            for (const auto& reason : reasons->value.GetArray()) {
                if (!reason.IsString()) continue;
                out += printable({reason.GetString(), reason.GetStringLength()}) + '\n';
            }
            return out;
        }
    }
    auto out = printable(body);
    if (!out.empty()) out += '\n';
    return out;
}

int probe(const StatusOptions& given, Program& program) {
    const auto reply = ask(given, given.ready ? "/readyz" : "/livez", program);
    if (!reply) return fail(program, reply.error());
    const bool good = reply->status == 200;
    if (given.output == Output::json) {
        fmt::print(program.out, "{}\n", reply->body);
    } else {
        const char* const word = given.ready ? "ready" : "live";
        fmt::print(program.out, "{}{}\n", good ? "" : "not ", word);
        if (!good) fmt::print(program.out, "{}", probe_text(reply->body));
    }
    return good ? 0 : kExitFailed;
}

int status(const StatusOptions& given, Program& program) {
    if (given.ready || given.live) return probe(given, program);
    const auto reply = ask(given, "/status", program);
    if (!reply) return fail(program, reply.error());
    if (reply->status != 200) {
        fmt::print(program.err, "opsrelay: /status: the daemon answered HTTP {}\n", reply->status);
        return kExitFailed;
    }
    if (given.output == Output::json) {
        fmt::print(program.out, "{}\n", reply->body);
        return 0;
    }
    const auto text = status_text(reply->body);
    if (!text) return fail(program, text.error());
    fmt::print(program.out, "{}", *text);
    return 0;
}

}  // namespace

void add_status(CLI::App& app, Program& program, Action& action) {
    auto* const command = app.add_subcommand("status", "Show the state of a running daemon");
    const auto given = std::make_shared<StatusOptions>();  // lives as long as CLI11 refers to it
    add_client_flags(*command, given->where);
    command
        ->add_option("--admin-port", given->admin_port,
                     "Port of the daemon's admin listener on 127.0.0.1")
        ->type_name("N");
    command->add_option("--timeout", given->timeout, "Wait this long for the answer; default 3s")
        ->type_name("DURATION");
    auto* const ready = command->add_flag("--ready", given->ready,
                                          "Exit 0 if it accepts events, else 1 with reasons");
    command->add_flag("--live", given->live, "Exit 0 if it is alive, else 1")->excludes(ready);
    add_output(*command, given->output);
    command->footer(kFooter);
    command->callback([given, &program, &action] {
        action = [given, &program] { return status(*given, program); };
    });
}

}  // namespace opsrelay::cli
