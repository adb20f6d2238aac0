// `completion` and `man` print what the command line itself tells.
#include <fmt/format.h>

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

void add_completion(Command app, Program& program, Action& action) {
    const auto group = app.add_subcommand("completion", "Print the completions of a shell");
    group.require_subcommand();
    group.footer(kCompletionFooter);
    const auto add = [&](const char* shell, const char* help,
                         std::string (*make)(const CommandPage&)) {
        const auto command = group.add_subcommand(shell, help);
        command.callback([app, make, &program, &action] {
            action = [app, make, &program] {
                fmt::print(program.out, "{}", make(app.page()));
                return 0;
            };
        });
    };
    add("bash", "For bash 4 or later", bash_completion);
    add("zsh", "For zsh", zsh_completion);
}

void add_man(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("man", "Print the manual page");
    command.footer(kManFooter);
    command.callback([app, &program, &action] {
        action = [app, &program] {
            fmt::print(program.out, "{}", manual_page(app.page()));
            return 0;
        };
    });
}

}  // namespace opsrelay::cli
