// What may be changed in an event, or noticed about it, by kind (proto/README.md).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/enum_table.h"

namespace opsrelay::parse {

/// Label values of `kind`. Each is counted at most once an event.
enum class Repair : std::uint8_t {
    minted_id,          // externalRequestId was absent: a UUIDv7 was made
    id_to_string,       // externalRequestId was an integer
    trimmed,            // white space around provider or model
    model_aliased,      // model was replaced by events.model_aliases
    tokens_filled,      // a token count was absent (0, or the sum for totalTokens)
    tokens_from_usage,  // a token count was absent and taken from a provider's usage object
    tokens_integral,    // 742.0 became 742
    status_filled,      // status was absent
    status_spelled,     // case or space of status
    error_code_to_string,
    latency_rounded,
    enum_spelled,        // case or space of dataMode, environment
    created_at_removed,  // not ISO 8601
    created_at_stamped,
    tenant_lifted,    // tenantId was absent and copied from metadata
    default_filled,   // a field was absent and has a default of the listener
    denied_removed,   // a member was removed by privacy.deny_fields
    identity_hashed,  // userId or tenantId became a pseudonym
    identity_dropped,
    identity_personal,  // counted only: a userId or tenantId looks like an address or a number
    total_mismatch,     // counted only: totalTokens differs from the sum, sent as it is
};
inline constexpr std::size_t kRepairCount = 21;
inline constexpr std::array<EnumName<Repair>, kRepairCount> kRepairs{{
    {Repair::minted_id, "minted_id"},
    {Repair::id_to_string, "id_to_string"},
    {Repair::trimmed, "trimmed"},
    {Repair::model_aliased, "model_aliased"},
    {Repair::tokens_filled, "tokens_filled"},
    {Repair::tokens_from_usage, "tokens_from_usage"},
    {Repair::tokens_integral, "tokens_integral"},
    {Repair::status_filled, "status_filled"},
    {Repair::status_spelled, "status_spelled"},
    {Repair::error_code_to_string, "error_code_to_string"},
    {Repair::latency_rounded, "latency_rounded"},
    {Repair::enum_spelled, "enum_spelled"},
    {Repair::created_at_removed, "created_at_removed"},
    {Repair::created_at_stamped, "created_at_stamped"},
    {Repair::tenant_lifted, "tenant_lifted"},
    {Repair::default_filled, "default_filled"},
    {Repair::denied_removed, "denied_removed"},
    {Repair::identity_hashed, "identity_hashed"},
    {Repair::identity_dropped, "identity_dropped"},
    {Repair::identity_personal, "identity_personal"},
    {Repair::total_mismatch, "total_mismatch"},
}};
static_assert(dense(kRepairs));
constexpr std::string_view to_string(Repair r) { return kRepairs.at(index_of(r)).name; }

/// A set of repairs: bit i is kRepairs[i].
using RepairSet = std::uint32_t;
static_assert(kRepairCount <= 32, "a RepairSet has 32 bits");
constexpr RepairSet bit(Repair repair) noexcept { return RepairSet{1} << index_of(repair); }

/// What is counted and changes nothing.
inline constexpr RepairSet kCountedOnly =
    bit(Repair::identity_personal) | bit(Repair::total_mismatch);

}  // namespace opsrelay::parse
