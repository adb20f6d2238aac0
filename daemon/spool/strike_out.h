// Pure: takes duplicates that were found late out of a segment.
#pragma once

#include <cstdint>
#include <span>

#include "spool/store.h"

namespace opsrelay::spool {

/// Removes the events with these indices (ascending) and their ids; `maybe` is emptied, since every
/// event that stays is accepted.
void strike_out(Segment& segment, std::span<const std::uint32_t> indices);

}  // namespace opsrelay::spool
