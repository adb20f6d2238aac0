// The command line as data, taken from its own definitions (command.h): completions and the manual
// page are made of it, so that they cannot say anything else than `--help`.
#pragma once

#include <string>
#include <vector>

namespace opsrelay::cli {

/// What completes the value of an option.
enum class ValueKind : unsigned char {
    none,      // a flag
    anything,  // a number, a name
    choice,    // one of `choices`
    file,
    directory
};

struct OptionPage {
    std::vector<std::string> names;  // "-n", "--count"; of a positional only its name
    bool positional = false;
    bool optional_value = false;
    ValueKind kind = ValueKind::none;
    std::vector<std::string> choices;
    std::string type;  // as --help shows it: "FILE", "text|json"
    std::string help;  // one sentence
};

struct CommandPage {
    std::string path;  // "", "status", "dead list"
    std::string name;
    std::string help;
    std::string footer;  // as --help shows it: paragraphs, examples, exit codes
    std::vector<OptionPage> options;
    std::vector<CommandPage> commands;
};

/// The value of an option that takes one: its type, and how that is completed.
void set_type(OptionPage& page, std::string type);

/// A script that bash sources, one that zsh autoloads (as _opsrelay), and a page of section 1 in
/// man(7) macros.
[[nodiscard]] std::string bash_completion(const CommandPage& program);
[[nodiscard]] std::string zsh_completion(const CommandPage& program);
[[nodiscard]] std::string manual_page(const CommandPage& program);

/// Calls `use` for this page and all below, parents first.
template <typename Use>
void for_each_page(const CommandPage& page, const Use& use) {
    use(page);
    for (const auto& command : page.commands) for_each_page(command, use);
}

}  // namespace opsrelay::cli
