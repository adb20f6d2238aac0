// `version` names this program and the libraries it was built with.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "cli/commands.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

struct Library {
    std::string_view name;
    std::string_view version;
};

// OPSRELAY_LIBRARIES is "name version,name version", written by CMake from the packages it found.
std::vector<Library> libraries() {
    std::vector<Library> all;
    std::string_view rest = OPSRELAY_LIBRARIES;
    while (!rest.empty()) {
        const auto entry = rest.substr(0, rest.find(','));
        rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
        const auto space = entry.find(' ');
        if (space == std::string_view::npos || space + 1 == entry.size()) continue;
        all.push_back({entry.substr(0, space), entry.substr(space + 1)});
    }
    return all;
}

int version(Output output, Program& program) {
    if (output == Output::text) {
        fmt::print(program.out, "opsrelay {}\n", OPSRELAY_VERSION);
        for (const auto& library : libraries()) {
            fmt::print(program.out, "{} {}\n", library.name, library.version);
        }
        return 0;
    }
    std::string list;
    for (const auto& library : libraries()) {
        if (!list.empty()) list += ',';
        list += fmt::format("{}:{}", json_string(library.name), json_string(library.version));
    }
    fmt::print(program.out, "{{\"version\":{},\"libraries\":{{{}}}}}\n",
               json_string(OPSRELAY_VERSION), list);
    return 0;
}

}  // namespace

void add_version(Command app, Program& program, Action& action) {
    const auto command = app.add_subcommand("version", "Print the version");
    const auto output =
        std::make_shared<Output>(Output::text);  // as long as the option refers to it
    add_output(command, *output);
    command.footer("\nExamples:\n  opsrelay version\n  opsrelay version --output json");
    command.callback([output, &program, &action] {
        action = [output, &program] { return version(*output, program); };
    });
}

}  // namespace opsrelay::cli
