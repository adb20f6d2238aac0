#include <fmt/format.h>

#include "cli/describe.h"

namespace opsrelay::cli {

namespace {

constexpr const char* kBegin =
    R"(# bash completion for opsrelay, made by `opsrelay completion bash`.
_opsrelay() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local path="" next words="" i
    # bash splits --name=value in three.
    if [[ $current == "=" ]]; then
        current=""
    elif [[ $previous == "=" ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        next="${path:+$path }${COMP_WORDS[i]}"
        case $next in
)";

constexpr const char* kMiddle = R"(                path=$next ;;
        esac
    done
    COMPREPLY=()
    case "$path $previous" in
)";

constexpr const char* kEnd = R"(    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _opsrelay opsrelay
)";

std::string join(const std::vector<std::string>& words) {
    std::string line;
    for (const auto& word : words) line += (line.empty() ? "" : " ") + word;
    return line;
}

// What follows an option that takes a value.
void append_values(std::string& out, const CommandPage& page) {
    for (const auto& option : page.options) {
        if (option.kind == ValueKind::none || option.positional || option.optional_value) continue;
        std::string patterns;
        for (const auto& name : option.names) {
            patterns += fmt::format("{}\"{} {}\"", patterns.empty() ? "" : "|", page.path, name);
        }
        out += fmt::format("        {})\n", patterns);
        switch (option.kind) {
            case ValueKind::none:
            case ValueKind::anything: break;
            case ValueKind::choice:
                out += fmt::format(
                    "            mapfile -t COMPREPLY < <(compgen -W \"{}\" -- "
                    "\"$current\")\n",
                    join(option.choices));
                break;
            case ValueKind::file:
            case ValueKind::directory:
                out += fmt::format(
                    "            compopt -o filenames\n"
                    "            mapfile -t COMPREPLY < <(compgen -{} -- "
                    "\"$current\")\n",
                    option.kind == ValueKind::file ? 'f' : 'd');
                break;
        }
        out += "            return ;;\n";
    }
}

void append_words(std::string& out, const CommandPage& page) {
    std::vector<std::string> words;
    for (const auto& command : page.commands) words.push_back(command.name);
    for (const auto& option : page.options) {
        if (!option.positional) words.insert(words.end(), option.names.begin(), option.names.end());
    }
    out += fmt::format("        \"{}\") words=\"{}\" ;;\n", page.path, join(words));
}

}  // namespace

std::string bash_completion(const CommandPage& program) {
    std::string out = kBegin;
    std::string paths;
    for_each_page(program, [&](const CommandPage& page) {
        if (page.path.empty()) return;
        paths += fmt::format("{}\"{}\"", paths.empty() ? "" : " | ", page.path);
    });
    out += fmt::format("            {})\n", paths);
    out += kMiddle;
    for_each_page(program, [&](const CommandPage& page) { append_values(out, page); });
    out += "    esac\n    case $path in\n";
    for_each_page(program, [&](const CommandPage& page) { append_words(out, page); });
    return out + kEnd;
}

}  // namespace opsrelay::cli
