// Bytes in, an admissible event or a reason out: the contract of one event (proto/README.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/outcome.h"
#include "core/random.h"
#include "parse/json_reader.h"
#include "parse/options.h"
#include "parse/patch.h"
#include "parse/receipt.h"
#include "parse/rules.h"

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
    std::string_view field;  // "" when the reason is about the whole event
    std::string message;     // what the field must be; no payload bytes
    bool parsed = false;     // it was a JSON object within the limits
    std::string_view id;     // recognised fields, "" when absent or unusable
    std::string_view provider;
    std::string_view model;
};

/// Parses, checks and, where the contract allows it, repairs one event at a time; keeps its scratch
/// memory between calls (bounded by event_bytes_max). Not thread-safe: one per ingest thread.
class EventParser {
public:
    EventParser(Options options, Rng& rng);
    // The events point into the parser's memory.
    EventParser(const EventParser&) = delete;
    EventParser& operator=(const EventParser&) = delete;

    /// True: event() is set; false: rejection() is set. `received` is the receive time used for
    /// createdAt. `bytes` must not contain the framing newline; newlines between tokens become
    /// spaces in event().json. The limit of event_bytes_max holds for `bytes`; what is filled in
    /// adds at most 250 bytes to it.
    [[nodiscard]] bool parse(std::string_view bytes, WallTime received);

    [[nodiscard]] const Event& event() const noexcept { return event_; }
    [[nodiscard]] const Rejection& rejection() const noexcept { return rejection_; }

private:
    // Each check returns false after reject(), and notes the repairs of its fields.
    [[nodiscard]] bool check_all();
    [[nodiscard]] bool check_id();
    [[nodiscard]] bool check_name(Field field, RejectReason missing);
    [[nodiscard]] bool check_tokens();
    [[nodiscard]] bool check_count(Field field, std::optional<std::uint64_t>& count);
    [[nodiscard]] bool check_status();
    [[nodiscard]] bool check_error_code();
    [[nodiscard]] bool check_latency();
    [[nodiscard]] bool check_enum(Field field, std::span<const std::string_view> names);
    [[nodiscard]] bool check_text(Field field);
    [[nodiscard]] bool check_metadata();
    void check_created_at();

    bool reject(RejectReason reason, std::string_view field, std::string message);
    bool reject(RejectReason reason, Field field, std::string_view message);
    bool reject_unread(const ReadFailure& failure);
    void recognise();
    void flatten(std::string_view bytes);
    void finish(WallTime received);
    void fill(Field field, std::string_view json, EditKind kind = EditKind::repair);
    void put_value(Field field, std::string_view json, Repair repair);
    void remove_member(const Value& value);
    void note(Repair repair) noexcept { event_.repairs |= 1U << index_of(repair); }

    const Options options_;
    Rng& rng_;
    JsonReader reader_;
    Patch patch_;
    std::string_view text_;  // the event with its newlines made spaces
    std::string flat_;       // text_ when it had newlines
    std::string patched_;
    std::string hashed_;  // the event without what reception adds
    std::string value_;   // one value being written
    std::optional<MintedId> minted_;
    bool needs_id_ = false;
    bool needs_stamp_ = false;
    Event event_;
    Rejection rejection_;
};

}  // namespace opsrelay::parse
