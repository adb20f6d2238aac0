// What a command tells the command line about itself and its options. CLI11, which parses, is
// header-only and costs every file that includes it some seconds of compilation, so command.cpp is
// the only one that does.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/describe.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace opsrelay::cli {

/// A handle on an option: copies mean the same one. Valid as long as its CommandLine.
class Option {
public:
    explicit Option(CLI::Option& option) noexcept : option_(&option) {}

    /// How --help shows its value: "FILE". "text|json" and the like are completed as choices.
    Option type_name(const char* name) const;
    /// Refuses all but whole numbers from `min` to `max`, and names them.
    Option range(std::uint64_t min, std::uint64_t max) const;
    /// How many values it takes at a time. With a `min` of 0 it can be given without one.
    Option expected(int min, int max) const;
    /// May be given several times, with one value each; otherwise that is refused.
    Option repeatable() const;
    Option required() const;
    /// Refused together with this one, by handle or by "--name" of one that was added before.
    Option excludes(Option other) const;
    Option excludes(const char* name) const;
    /// After a parse: it was given, with a value or without.
    [[nodiscard]] bool given() const;

private:
    CLI::Option* option_;
};

/// A name on the command line, and the value that it stands for.
template <typename Enum>
struct Choice {
    const char* name;
    Enum value;
};

/// A handle on the program itself, a group or a command: copies mean the same one. Valid as long as
/// its CommandLine.
///
/// Names are "--file", "-n,--count" or, of a positional, "events". `into` is written by a parse
/// that finds the option, and has to live until then; a value that is no number where one is needed
/// is refused.
class Command {
public:
    explicit Command(CLI::App& app) noexcept : app_(&app) {}

    Command add_subcommand(const char* name, const char* help) const;
    /// A group: one of its commands has to be given.
    void require_subcommand() const;
    /// Paragraphs, examples and exit codes at the end of --help.
    void footer(const char* text) const;
    /// Called by a parse that finds this command and nothing wrong.
    void callback(std::function<void()> chosen) const;

    Option add_flag(const char* name, bool& into, const char* help) const;
    Option add_option(const char* name, std::string& into, const char* help) const;
    Option add_option(const char* name, std::optional<std::string>& into, const char* help) const;
    Option add_option(const char* name, std::vector<std::string>& into, const char* help) const;
    Option add_option(const char* name, unsigned& into, const char* help) const;
    Option add_option(const char* name, std::uint64_t& into, const char* help) const;
    Option add_option(const char* name, std::optional<std::uint16_t>& into, const char* help) const;

    /// One of `choices`, whose values are 0 to n - 1 in order; nothing else is taken.
    template <typename Enum>
    Option add_choice(const char* name, Enum& into, const char* help,
                      std::initializer_list<Choice<Enum>> choices) const {
        std::vector<std::string> names;
        for (const auto& choice : choices) names.emplace_back(choice.name);
        return add_numbered(name, names, help,
                            [&into](unsigned value) { into = static_cast<Enum>(value); });
    }

    /// All that it was told, with its commands; what completions and the manual page are made of.
    [[nodiscard]] CommandPage page() const;

private:
    Option add_numbered(const char* name, const std::vector<std::string>& choices, const char* help,
                        std::function<void(unsigned)> use) const;

    CLI::App* app_;
};

/// What is wrong with a command line.
struct Mistake {
    CommandPage command;        // the last one that was named; with path "": none
    std::string complaint;      // in the words of CLI11
    std::string unknown;        // the first argument that nothing takes, without "=value"
    bool only_unknown = false;  // that there is such an argument is the complaint
};

/// Neither: the callback of the command was called.
struct Parsed {
    std::string help;  // asked for; whole, to be printed
    std::optional<Mistake> mistake;
};

/// The program's own definition. Not thread-safe, as all above.
class CommandLine {
public:
    CommandLine(const char* name, const char* help);
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;
    ~CommandLine();

    [[nodiscard]] Command root() const noexcept { return Command(*app_); }
    /// Once, with the arguments behind the name of the program.
    [[nodiscard]] Parsed parse(const std::vector<std::string>& arguments);

private:
    std::unique_ptr<CLI::App> app_;
};

}  // namespace opsrelay::cli
