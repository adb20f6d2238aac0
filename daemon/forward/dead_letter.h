// The dead letter of a record that upstream refused for good.
#pragma once

#include <cstdint>
#include <string_view>

#include "forward/upstream.h"
#include "spool/store.h"

namespace opsrelay::forward {

/// XXH3-64 of an event: DeadLetter::hash.
[[nodiscard]] std::uint64_t content_hash(std::string_view payload) noexcept;

/// Reason "upstream_<status>", the first KiB of the reply's body as detail, the record with its id,
/// provider and model. `lane` and `seq` are left to spool::Settler.
[[nodiscard]] spool::DeadLetter make_dead_letter(std::string_view payload, const Reply& reply,
                                                 WallTime now);

}  // namespace opsrelay::forward
