// Colour for people: only on a terminal, unless asked otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/cli.h"
#include "cli/command.h"

namespace opsrelay::cli {

enum class Colour : std::uint8_t { automatic, always, never };

/// `--color auto|always|never`.
void add_colour(Command command, Colour& colour);

/// With `auto`: standard output is a terminal, NO_COLOR is not set (no-color.org) and TERM is not
/// "dumb".
class Paint {
public:
    Paint() = default;
    Paint(Colour colour, const Program& program);

    [[nodiscard]] std::string good(std::string_view text) const { return in("32", text); }
    [[nodiscard]] std::string odd(std::string_view text) const { return in("33", text); }
    [[nodiscard]] std::string bad(std::string_view text) const { return in("31", text); }

private:
    [[nodiscard]] std::string in(std::string_view code, std::string_view text) const;
    bool on_ = false;
};

}  // namespace opsrelay::cli
