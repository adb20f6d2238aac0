// Pure: the value of an id log entry, the ids of one segment.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/event.h"
#include "spool/store.h"

namespace opsrelay::spool {

[[nodiscard]] std::string encode_ids(const Segment& segment);
/// How many ids an entry holds; 0 when it is not one.
[[nodiscard]] std::size_t ids_in(std::string_view value) noexcept;
/// Calls `sink` with every id in order and the segment's receive time.
void visit_ids(std::string_view value,
               const std::function<void(const IdHash&, std::int64_t unix_ms)>& sink);

}  // namespace opsrelay::spool
