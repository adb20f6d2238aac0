// A line of the daemon's tail for people.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/paint.h"

namespace opsrelay::cli {

struct TailLine {
    std::string text;    // for people, without its newline
    bool event = false;  // else it tells of events that were not shown
};
/// `chosen`: not all lines were asked for. nullopt: that is no line of a tail.
[[nodiscard]] std::optional<TailLine> read_tail_line(std::string_view json, bool chosen,
                                                     const Paint& paint);

}  // namespace opsrelay::cli
