#include "cli/describe.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>

namespace opsrelay::cli {

namespace {

// "auto|always|never"; of "N|off" what is a word.
std::vector<std::string> choices_of(std::string_view type) {
    std::vector<std::string> words;
    if (type.find('|') == std::string_view::npos) return words;
    while (!type.empty()) {
        const auto word = type.substr(0, type.find('|'));
        type.remove_prefix(std::min(type.size(), word.size() + 1));
        const bool lower =
            std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; });
        if (lower) words.emplace_back(word);
    }
    return words;
}

ValueKind kind_of(const OptionPage& option) {
    if (!option.choices.empty()) return ValueKind::choice;
    if (option.type == "FILE" || option.type == "PATH") return ValueKind::file;
    if (option.type == "DIR") return ValueKind::directory;
    return ValueKind::anything;
}

OptionPage describe(const CLI::Option& option) {
    OptionPage page;
    page.positional = option.get_positional();
    for (const auto& name : option.get_snames()) page.names.push_back("-" + name);
    for (const auto& name : option.get_lnames()) page.names.push_back("--" + name);
    if (page.positional) page.names = {option.get_name(true)};
    page.help = option.get_description();
    const bool takes_value = option.get_items_expected_max() > 0;
    if (!takes_value) return page;
    page.type = option.get_type_name();
    page.optional_value = option.get_items_expected_min() == 0 && !page.positional;
    page.choices = choices_of(page.type);
    page.kind = kind_of(page);
    return page;
}

CommandPage describe(const CLI::App& app, const std::string& parent, bool root) {
    CommandPage page;
    page.name = app.get_name();
    if (!root) page.path = parent.empty() ? page.name : parent + " " + page.name;
    page.help = app.get_description();
    page.footer = app.get_footer();
    for (const auto* option : app.get_options()) page.options.push_back(describe(*option));
    for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
        page.commands.push_back(describe(*command, page.path, false));
    }
    return page;
}

}  // namespace

CommandPage describe(const CLI::App& app) { return describe(app, "", true); }

}  // namespace opsrelay::cli
