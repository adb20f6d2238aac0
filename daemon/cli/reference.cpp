// `completion` and `man` print what the command line itself tells.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>

#include "cli/commands.h"
#include "cli/describe.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kCompletionFooter = R"(
The package installs both; otherwise:

Examples:
  source <(opsrelay completion bash)
  opsrelay completion bash > ~/.local/share/bash-completion/completions/opsrelay
  opsrelay completion zsh > ~/.zsh/completions/_opsrelay      a directory of fpath

Exit codes: 0 ok; 2 usage.)";

constexpr const char* kManFooter = R"(
Examples:
  opsrelay man | man -l -
  opsrelay man > /usr/local/share/man/man1/opsrelay.1

Exit codes: 0 ok; 2 usage.)";

}  // namespace

void add_completion(CLI::App& app, Program& program, Action& action) {
    auto* const group = app.add_subcommand("completion", "Print the completions of a shell");
    group->require_subcommand(1);
    group->footer(kCompletionFooter);
    const auto add = [&](const char* shell, const char* help,
                         std::string (*make)(const CommandPage&)) {
        auto* const command = group->add_subcommand(shell, help);
        command->callback([&app, make, &program, &action] {
            action = [&app, make, &program] {
                fmt::print(program.out, "{}", make(describe(app)));
                return 0;
            };
        });
    };
    add("bash", "For bash 4 or later", bash_completion);
    add("zsh", "For zsh", zsh_completion);
}

void add_man(CLI::App& app, Program& program, Action& action) {
    auto* const command = app.add_subcommand("man", "Print the manual page");
    command->footer(kManFooter);
    command->callback([&app, &program, &action] {
        action = [&app, &program] {
            fmt::print(program.out, "{}", manual_page(describe(app)));
            return 0;
        };
    });
}

}  // namespace opsrelay::cli
