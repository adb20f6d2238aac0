// Bytes in, an admissible event or a reason out: the contract of one event (proto/README.md).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/outcome.h"
#include "core/random.h"
#include "parse/options.h"

namespace opsrelay::parse {

/// A repair made to an event that upstream could not have stored as it was. Label values of `kind`.
enum class Repair : std::uint8_t {
    minted_id,        // externalRequestId was absent: a UUIDv7 was made
    id_to_string,     // externalRequestId was an integer
    trimmed,          // white space around provider or model
    tokens_filled,    // a token count was absent (0, or the sum for totalTokens)
    tokens_integral,  // 742.0 became 742
    status_filled,    // status was absent
    status_spelled,   // case or space of status
    error_code_to_string,
    latency_rounded,
    enum_spelled,        // case or space of dataMode, environment
    created_at_removed,  // not ISO 8601
    created_at_stamped,
    total_mismatch,  // counted only: totalTokens differs from the sum, sent as it is
};
inline constexpr std::size_t kRepairCount = 13;
inline constexpr std::array<EnumName<Repair>, kRepairCount> kRepairs{{
    {Repair::minted_id, "minted_id"},
    {Repair::id_to_string, "id_to_string"},
    {Repair::trimmed, "trimmed"},
    {Repair::tokens_filled, "tokens_filled"},
    {Repair::tokens_integral, "tokens_integral"},
    {Repair::status_filled, "status_filled"},
    {Repair::status_spelled, "status_spelled"},
    {Repair::error_code_to_string, "error_code_to_string"},
    {Repair::latency_rounded, "latency_rounded"},
    {Repair::enum_spelled, "enum_spelled"},
    {Repair::created_at_removed, "created_at_removed"},
    {Repair::created_at_stamped, "created_at_stamped"},
    {Repair::total_mismatch, "total_mismatch"},
}};
static_assert(dense(kRepairs));
constexpr std::string_view to_string(Repair r) { return kRepairs.at(index_of(r)).name; }

/// An admissible event. The views are valid until the parser's next call or until the input dies.
struct Event {
    std::string_view json;  // what is stored and sent: the input's own bytes unless repaired
    std::string_view id;    // externalRequestId, unescaped
    std::uint64_t content_hash = 0;  // of `json` without the createdAt that was stamped
    std::uint32_t repairs = 0;       // bit i: kRepairs[i]
};

/// Why an event is not admissible. The views have the lifetimes of Event's.
struct Rejection {
    RejectReason reason = RejectReason::not_json;
    std::string_view field;    // "" when the reason is about the whole event
    std::string message;       // what the field must be; no payload bytes
    bool parsed = false;       // it was a JSON object within the limits
    std::string_view id;       // recognised fields, "" when absent or unusable
    std::string_view provider;
    std::string_view model;
};

/// Parses, checks and, where the contract allows it, repairs one event at a time; keeps its scratch
/// memory between calls (bounded by event_bytes_max). Not thread-safe: one per ingest thread.
class EventParser {
public:
    EventParser(Options options, Rng& rng);

    /// True: event() is set; false: rejection() is set. `received` is the receive time used for
    /// createdAt. `bytes` must not contain the framing newline; newlines between tokens become
    /// spaces in event().json.
    [[nodiscard]] bool parse(std::string_view bytes, WallTime received);

    [[nodiscard]] const Event& event() const noexcept { return event_; }
    [[nodiscard]] const Rejection& rejection() const noexcept { return rejection_; }

private:
    Options options_;
    Rng& rng_;
    Event event_;
    Rejection rejection_;
};

}  // namespace opsrelay::parse
