#include "parse/event_parser.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "core/assert.h"
#include "core/time_stamp.h"

namespace opsrelay::parse {

namespace {

constexpr std::string_view kTokenRule = "must be an integer from 0 to 2147483647";

bool clean_name(std::string_view text) noexcept {
    return !text.empty() && text.size() <= kTextBytesMax && printable(text);
}

bool is_exactly(const Value& value, std::span<const std::string_view> names) noexcept {
    if (value.kind != ValueKind::string) return false;
    return std::find(names.begin(), names.end(), value.text) != names.end();
}

// nullopt when the id is usable as it is; else what an id must be.
std::optional<std::string_view> complaint_about_id(const Value& value) noexcept {
    if (value.kind == ValueKind::number) {
        if (is_integer_text(value.text) && value.text.size() <= kTextBytesMax) return std::nullopt;
        return "must be a string; of the numbers only integers of at most 256 digits are taken";
    }
    if (value.kind != ValueKind::string) return "must be a string";
    if (value.text.empty() || value.text.size() > kTextBytesMax) return "must have 1 to 256 bytes";
    if (!plainly_trimmed(value.text) && trim(value.text).empty()) {
        return "must not be white space only";
    }
    if (!printable(value.text)) return "must not contain control characters";
    return std::nullopt;
}

}  // namespace

EventParser::EventParser(Options options, Rng& rng)
    : options_(std::move(options)),
      rng_(rng),
      privacy_(options_.privacy),
      reader_(privacy_.guard(), options_.depth_max),
      outline_(reader_.outline()) {
    OPSRELAY_ASSERT(options_.event_bytes_max.count < (1ULL << 31U));  // the outline's offsets
    for (const auto& given : options_.defaults) {
        auto& texts = defaults_.emplace_back();
        for (const auto& [field, value] : given) {
            auto& text = texts.emplace_back(DefaultText{field, value, {}});
            if (field == Field::tenant_id) text.value = privacy_.name_of(Who::tenant, value);
            append_json_string(text.json, text.value);
        }
    }
}

bool EventParser::parse(std::string_view bytes, WallTime received, std::uint8_t defaults) {
    event_ = {};
    patch_.clear();
    needs_id_ = false;
    needs_stamp_ = false;
    lifted_ = false;
    if (bytes.size() > options_.event_bytes_max.count) {
        return reject(RejectReason::too_large, "",
                      fmt::format("the event has {} bytes, at most {} are taken", bytes.size(),
                                  options_.event_bytes_max.count));
    }
    if (const auto failure = reader_.read(bytes)) return reject_unread(*failure);
    flatten(bytes);
    privacy_.protect(text_, outline_, patch_, event_.repairs);
    if (!check_all()) {
        keep_rejected();
        return false;
    }
    finish(received, defaults);
    return true;
}

bool EventParser::check_all() {
    if (outline_.repeated_key()) {
        for (const auto& row : kFields) {
            if (outline_[row.value].repeated) {
                return reject(RejectReason::duplicate_key, row.value, "must not stand twice");
            }
        }
        return reject(RejectReason::duplicate_key, "", "a key must not stand twice");
    }
    if (!check_id() ||
        !check_name(Field::provider, RejectReason::missing_provider, event_.provider) ||
        !check_name(Field::model, RejectReason::missing_model, event_.model) || !check_tokens() ||
        !check_status() || !check_error_code() || !check_latency() ||
        !check_enum(Field::data_mode, kDataModeNames) ||
        !check_enum(Field::environment, kEnvironmentNames)) {
        return false;
    }
    for (const auto field : {Field::endpoint_tag, Field::prompt_version, Field::user_id,
                             Field::tenant_id, Field::feature_tag}) {
        if (!check_text(field)) return false;
    }
    const auto& tag = outline_[Field::endpoint_tag];
    if (!tag.missing()) event_.endpoint_tag = tag.text;
    check_created_at();
    if (!check_metadata()) return false;
    lift_tenant();
    return true;
}

bool EventParser::check_id() {
    const auto& value = outline_[Field::external_request_id];
    if (value.missing()) {
        if (options_.missing_id == MissingId::reject) {
            return reject(RejectReason::missing_id, Field::external_request_id, "is required");
        }
        needs_id_ = true;
        return true;
    }
    if (const auto complaint = complaint_about_id(value)) {
        return reject(RejectReason::bad_id, Field::external_request_id, *complaint);
    }
    event_.id = value.text;
    if (value.kind == ValueKind::number) {
        patch_.replace(value.begin, value.end, {"\"", value.text, "\""});
        note(Repair::id_to_string);
    }
    return true;
}

bool EventParser::check_name(Field field, RejectReason missing, std::string_view& name) {
    const auto& value = outline_[field];
    if (value.missing()) return reject(missing, field, "is required");
    if (value.kind != ValueKind::string) {
        return reject(RejectReason::bad_type, field, "must be a string");
    }
    name = plainly_trimmed(value.text) ? value.text : trim(value.text);
    if (name.empty()) return reject(missing, field, "must not be empty");
    const auto trimmed = name.size() != value.text.size();
    const auto alias =
        field == Field::model ? options_.model_aliases.find(name) : options_.model_aliases.end();
    const auto aliased = alias != options_.model_aliases.end();
    if (!trimmed && !aliased) return true;
    if (aliased) {
        name = alias->second;
        note(Repair::model_aliased);
    }
    if (trimmed) note(Repair::trimmed);
    value_.clear();
    append_json_string(value_, name);
    patch_.replace(value.begin, end_of(text_, value), {value_});
    return true;
}

bool EventParser::check_count(Field field, std::optional<std::uint64_t>& count) {
    const auto& value = outline_[field];
    if (value.missing()) return true;
    if (value.kind != ValueKind::number) return reject(RejectReason::bad_tokens, field, kTokenRule);
    if (const auto plain = plain_number(value.text); plain && *plain <= kTokensMax) {
        count = plain;
        return true;
    }
    const auto number = parse_decimal(value.text);
    count = token_count(number);
    if (!count) return reject(RejectReason::bad_tokens, field, kTokenRule);
    if (!number.plain) put_value(field, fmt::format_int(*count).c_str(), Repair::tokens_integral);
    return true;
}

// Reads what is absent from the usage objects and removes those that have counts.
bool EventParser::take_usage(TokenCounts& counts) {
    const auto before = counts;
    for (const auto section : {Field::usage, Field::usage_metadata}) {
        if (!has_usage(outline_, section)) continue;
        remove_member(outline_[section]);
        note(Repair::tokens_from_usage);
    }
    if (const auto fault = fill_from_usage(outline_, counts)) {
        return reject(RejectReason::bad_tokens, fault->field, std::string(fault->rule));
    }
    const auto put = [this](Field field, auto old, auto count) {
        if (!old && count) fill(field, fmt::format_int(*count).c_str());
    };
    put(Field::input_tokens, before.input, counts.input);
    put(Field::output_tokens, before.output, counts.output);
    put(Field::total_tokens, before.total, counts.total);
    return true;
}

bool EventParser::check_tokens() {
    TokenCounts counts;
    if (!check_count(Field::input_tokens, counts.input) ||
        !check_count(Field::output_tokens, counts.output) ||
        !check_count(Field::total_tokens, counts.total)) {
        return false;
    }
    if (!counts.complete() && !take_usage(counts)) return false;
    const auto sum = counts.input.value_or(0) + counts.output.value_or(0);
    if (!counts.total && sum > kTokensMax) {
        return reject(RejectReason::bad_tokens, Field::total_tokens,
                      "inputTokens + outputTokens must be at most 2147483647");
    }
    if (!counts.input) fill(Field::input_tokens, "0");
    if (!counts.output) fill(Field::output_tokens, "0");
    if (!counts.total) fill(Field::total_tokens, fmt::format_int(sum).c_str());
    if (!counts.complete()) note(Repair::tokens_filled);
    if (counts.total && *counts.total != sum) note(Repair::total_mismatch);
    event_.input_tokens = static_cast<std::uint32_t>(counts.input.value_or(0));
    event_.output_tokens = static_cast<std::uint32_t>(counts.output.value_or(0));
    return true;
}

bool EventParser::check_status() {
    const auto& value = outline_[Field::status];
    if (value.missing()) {
        const auto& code = outline_[Field::error_code];
        const auto empty = code.kind == ValueKind::string && trim(code.text).empty();
        event_.status = kStatusNames[code.missing() || empty ? 0 : 1];
        value_.assign("\"").append(event_.status).push_back('"');
        fill(Field::status, value_);
        note(Repair::status_filled);
        return true;
    }
    event_.status = value.text;
    if (is_exactly(value, kStatusNames)) return true;
    const auto name = spelled(value.text, kStatusNames);
    if (value.kind != ValueKind::string || !name) {
        return reject(RejectReason::bad_status, Field::status, "must be success or error");
    }
    event_.status = *name;
    value_.assign("\"").append(*name).push_back('"');
    put_value(Field::status, value_, Repair::status_spelled);
    return true;
}

bool EventParser::check_error_code() {
    const auto& value = outline_[Field::error_code];
    if (value.missing() || value.kind == ValueKind::string) return true;
    if (value.kind != ValueKind::number || !is_integer_text(value.text)) {
        return reject(RejectReason::bad_type, Field::error_code, "must be a string or an integer");
    }
    value_.assign("\"").append(value.text).push_back('"');
    put_value(Field::error_code, value_, Repair::error_code_to_string);
    return true;
}

bool EventParser::check_latency() {
    const auto& value = outline_[Field::latency_ms];
    if (value.missing()) return true;
    constexpr std::string_view kRule = "must be a number of milliseconds, 0 or more";
    if (value.kind != ValueKind::number) {
        return reject(RejectReason::bad_type, Field::latency_ms, kRule);
    }
    if (const auto plain = plain_number(value.text); plain && *plain <= kLatencyMax) return true;
    const auto number = parse_decimal(value.text);
    const auto rounded = number.whole + (number.round_up ? 1 : 0);
    if (number.negative || number.overflow || rounded > kLatencyMax) {
        return reject(RejectReason::bad_type, Field::latency_ms, kRule);
    }
    if (number.plain) return true;
    put_value(Field::latency_ms, fmt::format_int(rounded).c_str(), Repair::latency_rounded);
    return true;
}

bool EventParser::check_enum(Field field, std::span<const std::string_view> names) {
    const auto& value = outline_[field];
    if (value.missing()) return true;
    if (is_exactly(value, names)) return true;
    const auto name = spelled(value.text, names);
    if (value.kind != ValueKind::string || !name) {
        return reject(RejectReason::bad_enum, to_string(field),
                      fmt::format("must be one of {}", fmt::join(names, ", ")));
    }
    value_.assign("\"").append(*name).push_back('"');
    put_value(field, value_, Repair::enum_spelled);
    return true;
}

bool EventParser::check_text(Field field) {
    const auto& value = outline_[field];
    if (value.missing() || dropped(field)) return true;
    if (value.kind == ValueKind::string && value.text.size() <= kTextBytesMax) return true;
    return reject(RejectReason::bad_type, field, "must be a string of at most 256 bytes");
}

bool EventParser::dropped(Field field) const noexcept {
    return (field == Field::user_id && privacy_.rule(Who::user) == IdentityRule::drop) ||
           (field == Field::tenant_id && privacy_.rule(Who::tenant) == IdentityRule::drop);
}

bool EventParser::check_metadata() {
    const auto& value = outline_[Field::metadata];
    if (value.missing()) return true;
    if (value.kind == ValueKind::object && !outline_.metadata_nested()) return true;
    return reject(RejectReason::bad_type, Field::metadata,
                  "must be an object of strings, numbers, booleans and nulls");
}

void EventParser::check_created_at() {
    const auto& value = outline_[Field::created_at];
    needs_stamp_ = options_.stamp_created_at;
    if (value.missing()) return;
    if (value.kind == ValueKind::string && is_iso8601(value.text)) {
        needs_stamp_ = false;
        return;
    }
    remove_member(value);
    note(Repair::created_at_removed);
}

// Fills an absent field in: before the last brace, or in the place of its null.
void EventParser::fill(Field field, std::string_view json, EditKind kind) {
    const auto& value = outline_[field];
    if (value.kind == ValueKind::null) {
        patch_.replace(value.begin, value.end, {json}, kind);
        return;
    }
    const auto brace = outline_.closing_brace();
    patch_.replace(brace, brace, {",\"", to_string(field), "\":", json}, kind);
}

void EventParser::put_value(Field field, std::string_view json, Repair repair) {
    const auto& value = outline_[field];
    patch_.replace(value.begin, end_of(text_, value), {json});
    note(repair);
}

void EventParser::remove_member(const Value& value) {
    patch_.remove(value.key_begin, end_of(text_, value));
}

// The official SDKs send the tenant in metadata only. It stays there, under the same name.
void EventParser::lift_tenant() {
    const auto& inner = outline_[InnerField::metadata_tenant_id];
    const auto named = inner.kind == ValueKind::string || inner.kind == ValueKind::number;
    if (!options_.lift_tenant || !outline_[Field::tenant_id].missing() || !named ||
        inner.repeated || privacy_.rule(Who::tenant) == IdentityRule::drop) {
        return;
    }
    const auto name = privacy_.name_of(Who::tenant, inner.text);
    if (name.empty() || name.size() > kTextBytesMax) return;
    value_.clear();
    append_json_string(value_, name);
    fill(Field::tenant_id, value_);
    note(Repair::tenant_lifted);
    lifted_ = true;
}

// Raw newlines stand only between tokens in JSON, so that they are all replaceable.
void EventParser::flatten(std::string_view bytes) {
    text_ = bytes;
    if (!reader_.newlines()) return;
    flat_.assign(bytes);
    std::replace_if(
        flat_.begin(), flat_.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    text_ = flat_;
}

void EventParser::finish(WallTime received, std::uint8_t defaults) {
    if (defaults != 0) fill_defaults(defaults);
    if (needs_id_) {
        minted_.emplace(received, rng_);
        event_.id = minted_->text();
        value_.assign("\"").append(event_.id).push_back('"');
        fill(Field::external_request_id, value_, EditKind::receipt);
        note(Repair::minted_id);
    }
    if (needs_stamp_) {
        const TimeStamp stamp(received);
        value_.assign("\"").append(stamp.text()).push_back('"');
        // A createdAt that is being removed leaves no null behind, so this inserts at the end.
        fill(Field::created_at, value_, EditKind::receipt);
        note(Repair::created_at_stamped);
    }
    event_.json = text_;
    auto said = text_;  // what the app said, which is what a repeat of it must say again
    if (patch_.has(EditKind::privacy) || patch_.has(EditKind::repair)) {
        patch_.apply(text_, EditKind::repair, said_);
        said = event_.json = said_;
    }
    if (patch_.has(EditKind::receipt)) {
        patch_.apply(text_, EditKind::receipt, patched_);
        event_.json = patched_;
    }
    event_.content_hash = XXH3_64bits(said.data(), said.size());
}

// What a listener adds is no part of what the app said: a repeat through another one is the same.
void EventParser::fill_defaults(std::uint8_t defaults) {
    OPSRELAY_ASSERT(defaults <= defaults_.size());
    for (const auto& [field, value, json] : defaults_[defaults - 1U]) {
        if (!outline_[field].missing() || (field == Field::tenant_id && lifted_)) continue;
        if (field == Field::endpoint_tag) event_.endpoint_tag = value;
        fill(field, json, EditKind::receipt);
        note(Repair::default_filled);
    }
}

bool EventParser::reject(RejectReason reason, std::string_view field, std::string message) {
    rejection_ = {};
    rejection_.reason = reason;
    rejection_.field = field;
    rejection_.message = std::move(message);
    return false;
}

bool EventParser::reject(RejectReason reason, Field field, std::string_view message) {
    return reject(reason, to_string(field), std::string(message));
}

bool EventParser::reject_unread(const ReadFailure& failure) {
    if (failure.reason == RejectReason::too_deep) {
        return reject(
            failure.reason, "",
            fmt::format("objects and arrays may be nested {} deep, no deeper", options_.depth_max));
    }
    if (failure.reason == RejectReason::not_an_object) {
        return reject(failure.reason, "", "the event must be a JSON object");
    }
    return reject(failure.reason, "", fmt::format("{} at byte {}", failure.what, failure.offset));
}

// What remains of an event that parsed: its payload without what must not be kept, and what it can
// be found by.
void EventParser::keep_rejected() {
    rejection_.payload = text_;
    if (patch_.has(EditKind::privacy)) {
        patch_.apply(text_, EditKind::privacy, patched_);
        rejection_.payload = patched_;
    }
    const auto& id = outline_[Field::external_request_id];
    if (!id.missing() && !id.repeated && !complaint_about_id(id)) rejection_.id = id.text;
    const auto name_of = [this](Field field) -> std::string_view {
        const auto& value = outline_[field];
        if (value.kind != ValueKind::string || value.repeated) return {};
        const auto name = trim(value.text);
        return clean_name(name) ? name : std::string_view{};
    };
    rejection_.provider = name_of(Field::provider);
    rejection_.model = name_of(Field::model);
}

}  // namespace opsrelay::parse
