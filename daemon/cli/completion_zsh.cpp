#include <fmt/format.h>

#include "cli/describe.h"

namespace opsrelay::cli {

namespace {

// For a text in single quotes; brackets and colons end parts of a specification.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\'') {
            out += "'\\''";
        } else if (c == '[' || c == ']' || c == ':') {
            out += '\\';
            out += c;
        } else {
            out += c;
        }
    }
    return out;
}

std::string value_of(const OptionPage& option) {
    std::string choices;
    switch (option.kind) {
        case ValueKind::none: return {};
        case ValueKind::file: return fmt::format(":{}:_files", option.type);
        case ValueKind::directory: return fmt::format(":{}:_files -/", option.type);
        case ValueKind::choice:
            for (const auto& word : option.choices) {
                choices += (choices.empty() ? "" : " ") + word;
            }
            return fmt::format(":{}:({})", escaped(option.type), choices);
        case ValueKind::anything: break;
    }
    return fmt::format(":{}: ", escaped(option.type));
}

std::string function_name(const CommandPage& page) {
    std::string name = "_opsrelay_" + page.path;
    for (auto& c : name) {
        if (c == ' ') c = '_';
    }
    return name;
}

void append_options(std::string& out, const CommandPage& page) {
    for (const auto& option : page.options) {
        if (option.positional) {
            out += fmt::format(" \\\n        '*:{}: '", escaped(option.type));
            continue;
        }
        for (const auto& name : option.names) {
            const bool split = option.kind != ValueKind::none && name.starts_with("--");
            out += fmt::format(" \\\n        '{}{}[{}]{}{}'", name, split ? "=" : "",
                               escaped(option.help), option.optional_value ? ":" : "",
                               value_of(option));
        }
    }
}

void append_command(std::string& out, const CommandPage& page) {
    out += fmt::format("{}() {{\n    _arguments -s", function_name(page));
    append_options(out, page);
    out += "\n}\n\n";
}

// A list of commands and, once one is there, what it takes.
void append_group(std::string& out, const CommandPage& page) {
    out += fmt::format("{}() {{\n", page.path.empty() ? "_opsrelay" : function_name(page));
    out += "    local context state state_descr line\n    typeset -A opt_args\n";
    out += "    _arguments -C";
    append_options(out, page);
    out += " \\\n        '1: :->command' '*:: :->rest'\n    case $state in\n    command)\n";
    out += "        local -a commands=(";
    for (const auto& command : page.commands) {
        out += fmt::format("\n            '{}:{}'", command.name, escaped(command.help));
    }
    out +=
        ")\n        _describe command commands\n        ;;\n    rest)\n        case $words[1] in\n";
    for (const auto& command : page.commands) {
        out += fmt::format("        {}) {} ;;\n", command.name, function_name(command));
    }
    out += "        esac\n        ;;\n    esac\n}\n\n";
}

}  // namespace

std::string zsh_completion(const CommandPage& program) {
    std::string out =
        "#compdef opsrelay\n# zsh completion for opsrelay, made by `opsrelay completion zsh`.\n\n";
    for_each_page(program, [&](const CommandPage& page) {
        if (page.commands.empty()) {
            append_command(out, page);
        } else {
            append_group(out, page);
        }
    });
    out +=
        "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    _opsrelay \"$@\"\nelse\n"
        "    compdef _opsrelay opsrelay\nfi\n";
    return out;
}

}  // namespace opsrelay::cli
