#include "cli/cli.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <map>
#include <sstream>
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

std::vector<std::string> command_names(const CLI::App& app) {
    std::vector<std::string> names;
    for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
        names.push_back(command->get_name());
    }
    return names;
}

std::vector<std::string> flag_names(const CLI::App& command) {
    std::vector<std::string> names;
    for (const auto* option : command.get_options()) {
        for (const auto& name : option->get_lnames()) names.push_back("--" + name);
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

// CLI11's text, with the nearest flag for one that does not exist.
int parse_error(Program& program, const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App* chosen = &app;
    std::string name;
    while (!chosen->get_subcommands().empty()) {  // of a group: the one in it
        chosen = chosen->get_subcommands().front();
        name += fmt::format("{}{}", name.empty() ? "" : " ", chosen->get_name());
    }
    const CLI::App& command = *chosen;
    const auto extras = app.remaining(true);
    const auto first = extras.empty() ? "" : extras.front().substr(0, extras.front().find('='));
    const auto names = command_names(command);
    if (!first.empty() && !first.starts_with('-') && !names.empty()) {
        return usage_error(program, name,
                           fmt::format("unknown command {}{}", first, suggestion(first, names)));
    }
    if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr || first.empty()) {
        return usage_error(program, name, error.what());
    }
    return usage_error(
        program, name,
        fmt::format("unknown argument {}{}", first, suggestion(first, flag_names(command))));
}

}  // namespace

int fail(Program& program, const Error& error) {
    fmt::print(program.err, "opsrelay: {}\n", error.context);
    return exit_code(error.code);
}

void add_output(CLI::App& command, Output& output) {
    const std::map<std::string, Output> names{{"text", Output::text}, {"json", Output::json}};
    command.add_option("--output", output, "How to print: text or json")
        ->type_name("text|json")
        ->transform(CLI::Transformer(names).description(""))
        ->check([](const std::string& value) {
            return value == "0" || value == "1" ? std::string{} : "write text or json";
        });
}

int dispatch(const std::vector<std::string>& arguments, Program& program) {
    CLI::App app("opsrelay makes LLM-cost telemetry durable, deduplicates it and delivers it.",
                 "opsrelay");
    Action action;
    app.require_subcommand(1);
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
    const auto names = command_names(app);
    if (!first.starts_with('-') && std::find(names.begin(), names.end(), first) == names.end()) {
        return usage_error(program, "",
                           fmt::format("unknown command {}{}", first, suggestion(first, names)));
    }
    try {
        app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::Success& help) {
        std::ostringstream text;
        const int code = app.exit(help, text, text);
        fmt::print(program.out, "{}", text.str());
        return code;
    } catch (const CLI::ParseError& error) {
        return parse_error(program, app, error);
    }
    return action();
}

int dispatch(int argc, char** argv, const RunDaemon& run, const OpenSpool& open_spool,
             const TryUpstream& try_upstream) {
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
                    try_upstream};
    const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
    const int code = dispatch(arguments, program);
    if (std::fflush(stdout) == 0) return code;
    // A script that saved the output must learn that it is not whole.
    const auto error = errno_error(Errc::io, "standard output", errno);
    return code == 0 ? fail(program, error) : code;
}

}  // namespace opsrelay::cli
