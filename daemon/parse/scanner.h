// The fast path of JsonReader: reads the shape that almost all events have, and leaves the rest.
#pragma once

#include <string_view>

#include "parse/outline.h"

namespace opsrelay::parse {

/// What the scanner found out about a text that it read.
struct Scan {
    bool taken = false;     // false: not mine, nothing is said about the text
    bool newlines = false;  // there are newlines or carriage returns between tokens
};

/// Taken: `text` is a JSON object within the limits in valid UTF-8, and `outline`, which was reset,
/// has been told all of it just as RapidJSON would have. Left to RapidJSON: escapes, exponents,
/// what is nested deeper than a few levels, and all that is wrong.
[[nodiscard]] Scan scan(std::string_view text, Outline& outline);

/// The same without instructions of one processor; what scan() is where there is no faster one.
[[nodiscard]] Scan scan_portably(std::string_view text, Outline& outline);

}  // namespace opsrelay::parse
