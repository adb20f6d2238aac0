// /status as a table for people.
#pragma once

#include <string>
#include <string_view>

#include "cli/paint.h"
#include "core/clock.h"
#include "core/error.h"

namespace opsrelay::cli {

/// The JSON of /status, rendered. Absent fields are left out. Error: refused, not a JSON object.
[[nodiscard]] Result<std::string> status_text(std::string_view json, const Paint& paint = {});

/// "2026-01-02T03:04:05Z".
[[nodiscard]] std::string time_text(WallTime time);

/// Binary units with one digit: "1.5 MiB".
[[nodiscard]] std::string size_text(double bytes);

/// Without control characters, so that a reply cannot steer the terminal.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace opsrelay::cli
