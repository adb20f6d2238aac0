#include "cli/paint.h"

#include <fmt/format.h>

namespace opsrelay::cli {

namespace {

std::string variable(const Program& program, const char* name) {
    const auto found = program.environment.variables.find(name);
    return found == program.environment.variables.end() ? std::string{} : found->second;
}

}  // namespace

void add_colour(Command command, Colour& colour) {
    command.add_choice<Colour>(
        "--color", colour, "When to colour; default auto: on a terminal",
        {{"auto", Colour::automatic}, {"always", Colour::always}, {"never", Colour::never}});
}

Paint::Paint(Colour colour, const Program& program) {
    const bool fits = program.out_is_terminal && variable(program, "NO_COLOR").empty() &&
                      variable(program, "TERM") != "dumb";
    on_ = colour == Colour::always || (colour == Colour::automatic && fits);
}

std::string Paint::in(std::string_view code, std::string_view text) const {
    if (!on_) return std::string(text);
    return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

}  // namespace opsrelay::cli
