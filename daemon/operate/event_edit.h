// Changes fields of a stored event for `opsrelay dead replay --set`.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace opsrelay::operate {

/// Whether the text is one JSON value and nothing else.
[[nodiscard]] bool is_json(std::string_view text);

/// A top-level field and its new value as JSON.
using FieldEdit = std::pair<std::string, std::string>;

/// The event with these fields replaced, or added at its end; everything else keeps its order and
/// its meaning, numbers to the digit. Whether the result is a good event is for the parser to say.
/// Errors: config_invalid (the event is no JSON object, or a value is no JSON).
[[nodiscard]] Result<std::string> set_fields(std::string_view event,
                                             const std::vector<FieldEdit>& edits);

}  // namespace opsrelay::operate
