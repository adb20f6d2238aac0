// What the event contract lets an operator choose.
#pragma once

#include <cstdint>

#include "core/units.h"

namespace opsrelay::parse {

enum class MissingId : std::uint8_t {
    mint,   // default: a UUIDv7, counted; a re-send is then a second event
    reject  // missing_id
};

struct Options {
    MissingId missing_id = MissingId::mint;
    bool stamp_created_at = true;  // insert createdAt (receive time) when absent
    Bytes event_bytes_max{64U << 10U};
    unsigned depth_max = 16;  // nesting of arrays and objects, the event itself is 1
};

}  // namespace opsrelay::parse
