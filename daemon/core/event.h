// The words that every stage shares: what an event, a record and a lane are called.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/enum_table.h"

namespace opsrelay {

/// A lane is one upstream destination with its API key, order, state and limits.
enum class LaneId : std::uint16_t {};
inline constexpr LaneId kDefaultLane{0};

/// The number and the name that a lane keeps for ever.
struct LaneName {
    LaneId lane = kDefaultLane;
    std::string name = "default";
};

/// A record's number within its lane: starts at 1, contiguous, never reused.
using Seq = std::uint64_t;

/// Counts the fresh events this process handed from ingest to storage, from 1, over all lanes.
/// "Settled up to position P" means that every event up to P is durable (or was given up).
using Position = std::uint64_t;

/// 128-bit salted hash of (lane, externalRequestId).
struct IdHash {
    std::uint64_t hi = 0;
    std::uint64_t lo = 0;
    constexpr auto operator<=>(const IdHash&) const = default;
};

/// How a message came in. Label values of `listener`.
enum class ListenerKind : std::uint8_t { unix_datagram, unix_stream, udp, http };
inline constexpr std::array<EnumName<ListenerKind>, 4> kListenerKinds{{
    {ListenerKind::unix_datagram, "unix_datagram"},
    {ListenerKind::unix_stream, "unix_stream"},
    {ListenerKind::udp, "udp"},
    {ListenerKind::http, "http"},
}};
static_assert(dense(kListenerKinds));
constexpr std::string_view to_string(ListenerKind kind) {
    return kListenerKinds.at(index_of(kind)).name;
}

/// Where a message came from: the listener, the lane it is bound to, and what it fills in.
struct Origin {
    ListenerKind kind = ListenerKind::unix_datagram;
    LaneId lane = kDefaultLane;
    std::uint8_t defaults = 0;  // number of the listener's defaults, from 1; 0: it has none
};

}  // namespace opsrelay
