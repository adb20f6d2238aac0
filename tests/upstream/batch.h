// Bodies of POST /v1/ingest/batch: a JSON array, or NDJSON, cut into items.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace opsrelay::upstream {

enum class BatchForm : std::uint8_t { array, ndjson };
/// By Content-Type: application/json, or application/x-ndjson and its other names. nullopt: 415.
[[nodiscard]] std::optional<BatchForm> batch_form(std::string_view content_type);

/// The items, views into `body`. A JSON array must be well-formed as a whole; a line need not be,
/// its item is not valid then. Empty lines are no items. Stops after `items_max` + 1 of them.
/// Errors: refused, saying what is wrong with the array.
[[nodiscard]] Result<std::vector<std::string_view>> split_batch(BatchForm form,
                                                                std::string_view body,
                                                                std::size_t items_max);

}  // namespace opsrelay::upstream
