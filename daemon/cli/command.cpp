#include "cli/command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <sstream>
#include <utility>

namespace opsrelay::cli {

namespace {

OptionPage page_of(const CLI::Option& option) {
    OptionPage page;
    page.positional = option.get_positional();
    for (const auto& name : option.get_snames()) page.names.push_back("-" + name);
    for (const auto& name : option.get_lnames()) page.names.push_back("--" + name);
    if (page.positional) page.names = {option.get_name(true)};
    page.help = option.get_description();
    if (option.get_items_expected_max() == 0) return page;
    page.optional_value = option.get_items_expected_min() == 0 && !page.positional;
    set_type(page, option.get_type_name());
    return page;
}

std::string path_of(const CLI::App& app) {
    const auto* const parent = app.get_parent();
    if (parent == nullptr) return {};
    const auto above = path_of(*parent);
    return above.empty() ? app.get_name() : above + " " + app.get_name();
}

CommandPage page_of(const CLI::App& app) {
    CommandPage page;
    page.name = app.get_name();
    page.path = path_of(app);
    page.help = app.get_description();
    page.footer = app.get_footer();
    for (const auto* option : app.get_options()) page.options.push_back(page_of(*option));
    for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
        page.commands.push_back(page_of(*command));
    }
    return page;
}

Mistake mistake_of(const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App* chosen = &app;
    while (!chosen->get_subcommands().empty()) {  // of a group: the one in it
        chosen = chosen->get_subcommands().front();
    }
    Mistake mistake{page_of(*chosen), error.what(), {}, false};
    const auto extras = app.remaining(true);
    if (!extras.empty()) mistake.unknown = extras.front().substr(0, extras.front().find('='));
    mistake.only_unknown = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
    return mistake;
}

// "text, json or csv"
std::string alternatives(const std::vector<std::string>& names) {
    std::string out;
    for (std::size_t i = 0; i < names.size(); ++i) {
        const bool last = i + 1 == names.size();
        out += fmt::format("{}{}", i == 0 ? "" : last ? " or " : ", ", names[i]);
    }
    return out;
}

}  // namespace

Option Option::type_name(const char* name) const {
    option_->type_name(name);
    return *this;
}

Option Option::range(std::uint64_t min, std::uint64_t max) const {
    option_->check(CLI::Range(min, max));
    return *this;
}

Option Option::expected(int min, int max) const {
    option_->expected(min, max);
    return *this;
}

Option Option::repeatable() const {
    option_->take_all()->allow_extra_args(false);
    return *this;
}

Option Option::required() const {
    option_->required();
    return *this;
}

Option Option::excludes(Option other) const {
    option_->excludes(other.option_);
    return *this;
}

Option Option::excludes(const char* name) const {
    option_->excludes(name);
    return *this;
}

bool Option::given() const { return option_->count() != 0; }

Command Command::add_subcommand(const char* name, const char* help) const {
    return Command(*app_->add_subcommand(name, help));
}

void Command::require_subcommand() const { app_->require_subcommand(1); }

void Command::footer(const char* text) const { app_->footer(text); }

void Command::callback(std::function<void()> chosen) const { app_->callback(std::move(chosen)); }

Option Command::add_flag(const char* name, bool& into, const char* help) const {
    return Option(*app_->add_flag(name, into, help));
}

Option Command::add_option(const char* name, std::string& into, const char* help) const {
    return Option(*app_->add_option(name, into, help));
}

Option Command::add_option(const char* name, std::optional<std::string>& into,
                           const char* help) const {
    return Option(*app_->add_option(name, into, help));
}

Option Command::add_option(const char* name, std::vector<std::string>& into,
                           const char* help) const {
    return Option(*app_->add_option(name, into, help));
}

Option Command::add_option(const char* name, unsigned& into, const char* help) const {
    return Option(*app_->add_option(name, into, help));
}

Option Command::add_option(const char* name, std::uint64_t& into, const char* help) const {
    return Option(*app_->add_option(name, into, help));
}

Option Command::add_option(const char* name, std::optional<std::uint16_t>& into,
                           const char* help) const {
    return Option(*app_->add_option(name, into, help));
}

Option Command::add_numbered(const char* name, const std::vector<std::string>& choices,
                             const char* help, std::function<void(unsigned)> use) const {
    std::map<std::string, unsigned> values;
    for (const auto& choice : choices) values.emplace(choice, static_cast<unsigned>(values.size()));
    std::string complaint = "write " + alternatives(choices);
    const auto is_value = [count = choices.size(), complaint](const std::string& value) {
        for (std::size_t i = 0; i < count; ++i) {
            if (value == std::to_string(i)) return std::string{};
        }
        return complaint;
    };
    auto* const option = app_->add_option_function<unsigned>(name, std::move(use), help);
    option->type_name(fmt::format("{}", fmt::join(choices, "|")))
        ->transform(CLI::Transformer(values).description(""))
        ->check(is_value);
    return Option(*option);
}

CommandPage Command::page() const { return page_of(*app_); }

CommandLine::CommandLine(const char* name, const char* help)
    : app_(std::make_unique<CLI::App>(help, name)) {}

CommandLine::~CommandLine() = default;

Parsed CommandLine::parse(const std::vector<std::string>& arguments) {
    Parsed parsed;
    try {
        app_->parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::Success& help) {
        std::ostringstream text;
        app_->exit(help, text, text);
        parsed.help = text.str();
    } catch (const CLI::ParseError& error) {
        parsed.mistake = mistake_of(*app_, error);
    }
    return parsed;
}

}  // namespace opsrelay::cli
