// The single counted end of every event, and the reasons that go with it. The names here are the
// metric labels, the log values and the reasons in HTTP replies.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/enum_table.h"

namespace opsrelay {

/// Why an event was not admitted. A rejected event becomes a dead letter.
enum class RejectReason : std::uint8_t {
    not_json,
    not_an_object,
    too_large,
    too_deep,
    duplicate_key,
    missing_provider,
    missing_model,
    missing_id,
    bad_id,
    bad_tokens,
    bad_status,
    bad_enum,
    bad_type,
    bad_utf8,
};
inline constexpr std::array<EnumName<RejectReason>, 14> kRejectReasons{{
    {RejectReason::not_json, "not_json"},
    {RejectReason::not_an_object, "not_an_object"},
    {RejectReason::too_large, "too_large"},
    {RejectReason::too_deep, "too_deep"},
    {RejectReason::duplicate_key, "duplicate_key"},
    {RejectReason::missing_provider, "missing_provider"},
    {RejectReason::missing_model, "missing_model"},
    {RejectReason::missing_id, "missing_id"},
    {RejectReason::bad_id, "bad_id"},
    {RejectReason::bad_tokens, "bad_tokens"},
    {RejectReason::bad_status, "bad_status"},
    {RejectReason::bad_enum, "bad_enum"},
    {RejectReason::bad_type, "bad_type"},
    {RejectReason::bad_utf8, "bad_utf8"},
}};
static_assert(dense(kRejectReasons));
constexpr std::string_view to_string(RejectReason r) { return kRejectReasons.at(index_of(r)).name; }

/// Why an event was refused before acceptance although nothing was wrong with it.
enum class ShedReason : std::uint8_t { spool_full, memory_full, rate_limited };
inline constexpr std::array<EnumName<ShedReason>, 3> kShedReasons{{
    {ShedReason::spool_full, "spool_full"},      // the spool reached spool.max_bytes
    {ShedReason::memory_full, "memory_full"},    // memory.stall_buffer is full: the disk stalls
    {ShedReason::rate_limited, "rate_limited"},  // its peer is over the listener's rate_limit
}};
static_assert(dense(kShedReasons));
constexpr std::string_view to_string(ShedReason r) { return kShedReasons.at(index_of(r)).name; }

/// How a repeat of an externalRequestId compares with the event that was accepted first.
enum class DuplicateKind : std::uint8_t { same, conflict, unknown };
inline constexpr std::array<EnumName<DuplicateKind>, 3> kDuplicateKinds{{
    {DuplicateKind::same, "same"},          // the same content
    {DuplicateKind::conflict, "conflict"},  // other content under the same id: the first wins
    {DuplicateKind::unknown, "unknown"},    // the first is known by its hash only
}};
static_assert(dense(kDuplicateKinds));
constexpr std::string_view to_string(DuplicateKind k) {
    return kDuplicateKinds.at(index_of(k)).name;
}

/// Why an accepted record was given up. A retry, a duplicate, a rejection is not a drop.
enum class DropReason : std::uint8_t { corrupt, purged, oldest, expired };
inline constexpr std::array<EnumName<DropReason>, 4> kDropReasons{{
    {DropReason::corrupt, "corrupt"},  // the record could not be read back from the spool
    {DropReason::purged, "purged"},    // an operator gave up its lane's records
    {DropReason::oldest, "oldest"},    // spool.on_full: drop_oldest
    {DropReason::expired, "expired"},  // older than spool.max_age
}};
static_assert(dense(kDropReasons));
constexpr std::string_view to_string(DropReason r) { return kDropReasons.at(index_of(r)).name; }

}  // namespace opsrelay
