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
/// Calls `sink` with every id in order and the segment's time of the id clock. Does nothing when
/// it is not an entry.
void visit_ids(std::string_view value,
               const std::function<void(const IdHash&, std::int64_t id_clock_ms)>& sink);

}  // namespace opsrelay::spool
