// Replies as bytes: written by hand, because faults need framing that no HTTP library would send.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "upstream/row_table.h"
#include "upstream/service.h"

namespace opsrelay::upstream {

/// Status line, headers and the empty line. `size` of the body; absent: chunked.
[[nodiscard]] std::string reply_head(const Reply& reply, std::string_view date, bool keep_alive,
                                     std::optional<std::size_t> size);

/// Appends rows from `row` on, one a line, until `end` or about 256 KiB; gives back the next row.
/// `ids`: only the ids, control characters escaped as in JSON.
[[nodiscard]] std::size_t append_rows(std::string& out, const RowTable& rows, bool ids,
                                      std::size_t row, std::size_t end);

}  // namespace opsrelay::upstream
