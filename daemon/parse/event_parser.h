// Bytes in, an admissible event or a reason out: the contract of one event (proto/README.md).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/outcome.h"
#include "core/random.h"
#include "parse/json_reader.h"
#include "parse/options.h"
#include "parse/outline.h"
#include "parse/patch.h"
#include "parse/privacy.h"
#include "parse/receipt.h"
#include "parse/repair.h"
#include "parse/rules.h"
#include "parse/usage.h"

namespace opsrelay::parse {

/// An admissible event. The views are valid until the parser's next call or until the input dies.
struct Event {
    std::string_view json;  // what is stored and sent: the input's own bytes unless repaired
    std::string_view id;    // externalRequestId, unescaped
    std::uint64_t content_hash = 0;  // of `json` without the createdAt that was stamped
    RepairSet repairs = 0;
    // What the call was, as it is forwarded.
    std::string_view provider;
    std::string_view model;
    std::string_view endpoint_tag;  // "" when absent
    std::string_view status;
    std::uint32_t input_tokens = 0;
    std::uint32_t output_tokens = 0;
};

/// Why an event is not admissible. The views have the lifetimes of Event's.
struct Rejection {
    RejectReason reason = RejectReason::not_json;
    std::string_view field;  // "" when the reason is about the whole event
    std::string message;     // what the field must be; no payload bytes
    // The rest is "" unless it was a JSON object within the limits.
    std::string_view payload;  // the event after the privacy step
    std::string_view id;       // recognised fields, "" when absent or unusable
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
    /// createdAt, `defaults` the number of the listener's defaults (Origin::defaults). `bytes` must
    /// not contain the framing newline; newlines between tokens become spaces in what comes out.
    /// The limit of event_bytes_max holds for `bytes`; what is filled in adds at most 8 KiB to it.
    [[nodiscard]] bool parse(std::string_view bytes, WallTime received, std::uint8_t defaults = 0);

    [[nodiscard]] const Event& event() const noexcept { return event_; }
    [[nodiscard]] const Rejection& rejection() const noexcept { return rejection_; }

private:
    // Each check returns false after reject(), and notes the repairs of its fields.
    [[nodiscard]] bool check_all();
    [[nodiscard]] bool check_id();
    [[nodiscard]] bool check_name(Field field, RejectReason missing, std::string_view& name);
    [[nodiscard]] bool check_tokens();
    [[nodiscard]] bool check_count(Field field, std::optional<std::uint64_t>& count);
    [[nodiscard]] bool take_usage(TokenCounts& counts);
    [[nodiscard]] bool check_status();
    [[nodiscard]] bool check_error_code();
    [[nodiscard]] bool check_latency();
    [[nodiscard]] bool check_enum(Field field, std::span<const std::string_view> names);
    [[nodiscard]] bool check_text(Field field);
    [[nodiscard]] bool check_metadata();
    [[nodiscard]] bool dropped(Field field) const noexcept;
    void check_created_at();
    void lift_tenant();

    bool reject(RejectReason reason, std::string_view field, std::string message);
    bool reject(RejectReason reason, Field field, std::string_view message);
    bool reject_unread(const ReadFailure& failure);
    void keep_rejected();
    void flatten(std::string_view bytes);
    void finish(WallTime received, std::uint8_t defaults);
    void fill_defaults(std::uint8_t defaults);
    void fill(Field field, std::string_view json, EditKind kind = EditKind::repair);
    void put_value(Field field, std::string_view json, Repair repair);
    void remove_member(const Value& value);
    void note(Repair repair) noexcept { event_.repairs |= bit(repair); }

    // A default, and how it is written.
    struct DefaultText {
        Field field;
        std::string value;
        std::string json;
    };

    const Options options_;
    Rng& rng_;
    PrivacyStep privacy_;
    JsonReader reader_;
    const Outline& outline_;
    std::vector<std::vector<DefaultText>> defaults_;
    Patch patch_;
    std::string_view text_;  // the event with its newlines made spaces
    std::string flat_;       // text_ when it had newlines
    std::string patched_;
    std::string said_;   // the event without what reception adds
    std::string value_;  // one value being written
    std::optional<MintedId> minted_;
    bool needs_id_ = false;
    bool needs_stamp_ = false;
    bool lifted_ = false;
    Event event_;
    Rejection rejection_;
};

}  // namespace opsrelay::parse
