// `doctor` looks at everything that delivery depends on, and says what to do.
#include <fmt/format.h>

#include <utility>

#include "cli/commands.h"
#include "cli/doctor_admin.h"
#include "cli/doctor_disk.h"
#include "cli/doctor_report.h"
#include "cli/doctor_sockets.h"
#include "cli/doctor_system.h"
#include "cli/doctor_upstream.h"
#include "cli/paint.h"
#include "config/fields.h"
#include "core/clock.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Checks the configuration, the daemon, its sockets and what it answers to probes and scrapers, the
spool's disk, every lane's upstream (key, name, connection, certificate, answer, clock) and the
system's limits. Takes the flags of `run`; run it as the daemon's user, with a daemon or without. It
changes nothing and sends no event.

Examples:
  opsrelay doctor
  opsrelay doctor --config opsrelay.yaml --output json
  opsrelay doctor --timeout 2s

Exit codes: 0 nothing failed; 1 a check failed; 2 usage.)";

struct DoctorOptions {
    RunFlags flags;
    std::string timeout = "5s";
    Colour colour = Colour::automatic;
    Output output = Output::text;
};

void append(Findings& to, Findings more) {
    for (auto& one : more) to.push_back(std::move(one));
}

Finding not_valid(const Error& error) {
    return {"config", {}, Health::fail, error.context, "correct it; `opsrelay check` reads it too"};
}

// Keys are looked at with their upstream.
void check_config(const config::Config& config, const FilesReport& files, Findings& found) {
    if (files.unusable) {
        found.push_back(not_valid(*files.unusable));
    } else {
        found.push_back(
            {"config",
             {},
             Health::ok,
             fmt::format("valid, with {} lane{} and {} listeners", config.lanes.size(),
                         config.lanes.size() == 1 ? "" : "s", config.listen.listeners.size()),
             {}});
    }
    for (const auto& warning : config.warnings) {
        found.push_back({"config", {}, Health::warn, warning, {}});
    }
}

Findings examine(const config::Config& config, milliseconds timeout, const Program& program) {
    const SystemClock clock;
    const auto due = [&clock, timeout] { return clock.now() + timeout; };
    Findings found;
    check_config(config, program.try_files(config), found);
    // First, because it makes a process and the upstreams may leave threads behind.
    auto disk = check_disk(config, clock, due());
    const auto daemon = check_daemon(config, clock, due());
    found.push_back(daemon.finding);
    append(found, check_listeners(config, daemon, clock, due()));
    append(found, check_admin_ports(config, daemon, clock, due()));
    append(found, std::move(disk));
    for (const auto& [lane, options] : config.lanes) {
        const auto report = program.try_upstream(options, timeout);
        append(found, judge_upstream(lane, options, report, unix_ms(clock.wall_now())));
    }
    append(found, judge_system(config, look_at_system()));
    return found;
}

int doctor(const DoctorOptions& given, Program& program) {
    using std::chrono_literals::operator""ms;
    using std::chrono_literals::operator""min;
    const auto timeout = config::duration_field("--timeout", given.timeout, {1ms, 1min});
    if (!timeout) return fail(program, timeout.error());
    const auto config = load(given.flags, program);
    Findings found;
    if (config) {
        found = examine(*config, *timeout, program);
    } else {
        found.push_back(not_valid(config.error()));
    }
    fmt::print(program.out, "{}",
               given.output == Output::json ? findings_json(found)
                                            : findings_text(found, Paint(given.colour, program)));
    return any_failed(found) ? kExitFailed : 0;
}

}  // namespace

void add_doctor(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("doctor", "Check everything that delivery depends on");
    const auto given = std::make_shared<DoctorOptions>();  // lives as long as options refer to it
    add_run_flags(command, given->flags);
    command.add_option("--timeout", given->timeout, "Wait this long for each step; default 5s")
        .type_name("DURATION");
    add_colour(command, given->colour);
    add_output(command, given->output);
    command.footer(kFooter);
    command.callback([given, &program, &action] {
        action = [given, &program] { return doctor(*given, program); };
    });
}

}  // namespace opsrelay::cli
