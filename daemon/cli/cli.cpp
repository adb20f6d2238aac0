#include "cli/cli.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <string_view>

#include "cli/commands.h"
#include "config/fields.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kFooter = R"(
Examples:
  opsrelay run                                  start with the defaults
  opsrelay check --config opsrelay.yaml         validate a configuration
  opsrelay send '{"provider":"openai","model":"gpt-4o","externalRequestId":"r-1"}'
  opsrelay status                               what the daemon is doing
  opsrelay tail                                 events as they pass
  opsrelay doctor                               what is wrong, and what to do
  opsrelay dead list                            events that will not be sent
  opsrelay COMMAND --help                       options and examples of a command

Exit codes: 0 ok; 1 failed or not ready; 2 usage or configuration; 3 spool locked by another
process; 4 spool unusable; 5 address in use; 6 storage failed at run time.)";

std::vector<std::string> command_names(const CommandPage& page) {
    std::vector<std::string> names;
    for (const auto& command : page.commands) names.push_back(command.name);
    return names;
}

std::vector<std::string> flag_names(const CommandPage& page) {
    std::vector<std::string> names;
    for (const auto& option : page.options) {
        std::copy_if(option.names.begin(), option.names.end(), std::back_inserter(names),
                     [](const std::string& name) { return name.starts_with("--"); });
    }
    return names;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
    const std::vector<std::string_view> views(known.begin(), known.end());
    const auto near = config::nearest(word, views);
    return near ? fmt::format("; did you mean {}?", *near) : std::string{};
}

int usage_error(Program& program, std::string_view command, std::string_view complaint) {
    const auto name = command.empty() ? "opsrelay" : fmt::format("opsrelay {}", command);
    fmt::print(program.err, "{}: {}\nRun '{} --help' for usage.\n", name, complaint, name);
    return kExitUsage;
}

// The complaint, with the nearest flag for one that does not exist.
int explain(Program& program, const Mistake& mistake) {
    const auto& command = mistake.command;
    const auto& first = mistake.unknown;
    const auto names = command_names(command);
    if (!first.empty() && !first.starts_with('-') && !names.empty()) {
        return usage_error(program, command.path,
                           fmt::format("unknown command {}{}", first, suggestion(first, names)));
    }
    if (!mistake.only_unknown || first.empty()) {
        return usage_error(program, command.path, mistake.complaint);
    }
    return usage_error(
        program, command.path,
        fmt::format("unknown argument {}{}", first, suggestion(first, flag_names(command))));
}

}  // namespace

int fail(Program& program, const Error& error) {
    fmt::print(program.err, "opsrelay: {}\n", error.context);
    return exit_code(error.code);
}

void add_output(Command command, Output& output) {
    command.add_choice<Output>("--output", output, "How to print: text or json",
                               {{"text", Output::text}, {"json", Output::json}});
}

int dispatch(const std::vector<std::string>& arguments, Program& program) {
    CommandLine line("opsrelay",
                     "opsrelay makes LLM-cost telemetry durable, deduplicates it and delivers it.");
    const auto app = line.root();
    Action action;
    app.require_subcommand();
    app.footer(kFooter);
    add_run(app, program, action);
    add_check(app, program, action);
    add_send(app, program, action);
    add_status(app, program, action);
    add_dead(app, program, action);
    add_spool(app, program, action);
    add_pause(app, program, action);
    add_resume(app, program, action);
    add_flush(app, program, action);
    add_reload(app, program, action);
    add_tail(app, program, action);
    add_doctor(app, program, action);
    add_completion(app, program, action);
    add_man(app, program, action);
    add_version(app, program, action);
    if (arguments.empty()) return usage_error(program, "", "a command is missing");
    const auto& first = arguments.front();
    const auto names = command_names(app.page());
    if (!first.starts_with('-') && std::find(names.begin(), names.end(), first) == names.end()) {
        return usage_error(program, "",
                           fmt::format("unknown command {}{}", first, suggestion(first, names)));
    }
    const auto parsed = line.parse(arguments);
    if (parsed.mistake) return explain(program, *parsed.mistake);
    if (!parsed.help.empty()) {
        fmt::print(program.out, "{}", parsed.help);
        return 0;
    }
    return action();
}

int dispatch(int argc, char** argv, const RunDaemon& run, const OpenSpool& open_spool,
             const TryUpstream& try_upstream, const TryFiles& try_files) {
    Program program{stdout,
                    stderr,
                    STDIN_FILENO,
                    ::isatty(STDIN_FILENO) != 0,
                    ::isatty(STDERR_FILENO) != 0,
                    ::isatty(STDOUT_FILENO) != 0,
                    config::take_environment(),
                    config::kDefaultFile,
                    run,
                    open_spool,
                    try_upstream,
                    try_files};
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    const int code = dispatch(arguments, program);
    if (std::fflush(stdout) == 0) return code;
    // A script that saved the output must learn that it is not whole.
    const auto error = errno_error(Errc::io, "standard output", errno);
    return code == 0 ? fail(program, error) : code;
}

}  // namespace opsrelay::cli
