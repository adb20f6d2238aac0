// The field table of an event and the pure checks behind it: no parser state, no output. The rules
// in words are in proto/README.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "core/enum_table.h"

namespace opsrelay::parse {

/// The fields that have a rule, in the order in which they are checked: the first one that is wrong
/// is the one that is reported. Every other field passes through unchanged.
enum class Field : std::uint8_t {
    external_request_id,
    provider,
    model,
    input_tokens,
    output_tokens,
    total_tokens,
    status,
    error_code,
    latency_ms,
    data_mode,
    environment,
    endpoint_tag,
    prompt_version,
    user_id,
    tenant_id,
    feature_tag,
    created_at,
    metadata,
    usage,
    usage_metadata,
};
inline constexpr std::size_t kFieldCount = 20;
inline constexpr std::array<EnumName<Field>, kFieldCount> kFields{{
    {Field::external_request_id, "externalRequestId"},
    {Field::provider, "provider"},
    {Field::model, "model"},
    {Field::input_tokens, "inputTokens"},
    {Field::output_tokens, "outputTokens"},
    {Field::total_tokens, "totalTokens"},
    {Field::status, "status"},
    {Field::error_code, "errorCode"},
    {Field::latency_ms, "latencyMs"},
    {Field::data_mode, "dataMode"},
    {Field::environment, "environment"},
    {Field::endpoint_tag, "endpointTag"},
    {Field::prompt_version, "promptVersion"},
    {Field::user_id, "userId"},
    {Field::tenant_id, "tenantId"},
    {Field::feature_tag, "featureTag"},
    {Field::created_at, "createdAt"},
    {Field::metadata, "metadata"},
    {Field::usage, "usage"},
    {Field::usage_metadata, "usageMetadata"},
}};
static_assert(dense(kFields));
constexpr std::string_view to_string(Field field) { return kFields.at(index_of(field)).name; }

/// Members of metadata, usage and usageMetadata that are looked at.
enum class InnerField : std::uint8_t {
    metadata_tenant_id,
    prompt_tokens,
    completion_tokens,
    input_tokens,
    output_tokens,
    total_tokens,
    cache_creation_input_tokens,
    cache_read_input_tokens,
    prompt_token_count,
    tool_use_prompt_token_count,
    candidates_token_count,
    thoughts_token_count,
    total_token_count,
};
inline constexpr std::size_t kInnerFieldCount = 13;
/// Their names as they are reported: the field they stand in, a dot, the key.
inline constexpr std::array<EnumName<InnerField>, kInnerFieldCount> kInnerFields{{
    {InnerField::metadata_tenant_id, "metadata.tenantId"},
    {InnerField::prompt_tokens, "usage.prompt_tokens"},
    {InnerField::completion_tokens, "usage.completion_tokens"},
    {InnerField::input_tokens, "usage.input_tokens"},
    {InnerField::output_tokens, "usage.output_tokens"},
    {InnerField::total_tokens, "usage.total_tokens"},
    {InnerField::cache_creation_input_tokens, "usage.cache_creation_input_tokens"},
    {InnerField::cache_read_input_tokens, "usage.cache_read_input_tokens"},
    {InnerField::prompt_token_count, "usageMetadata.promptTokenCount"},
    {InnerField::tool_use_prompt_token_count, "usageMetadata.toolUsePromptTokenCount"},
    {InnerField::candidates_token_count, "usageMetadata.candidatesTokenCount"},
    {InnerField::thoughts_token_count, "usageMetadata.thoughtsTokenCount"},
    {InnerField::total_token_count, "usageMetadata.totalTokenCount"},
}};
static_assert(dense(kInnerFields));
constexpr std::string_view to_string(InnerField field) {
    return kInnerFields.at(index_of(field)).name;
}

/// The member of `section` with exactly this key.
[[nodiscard]] std::optional<InnerField> find_inner_field(Field section,
                                                         std::string_view key) noexcept;

/// Longest externalRequestId, endpointTag, promptVersion, userId, tenantId, featureTag, in bytes
/// after unescaping.
inline constexpr std::size_t kTextBytesMax = 256;
/// Largest token count: upstream's columns are 32-bit.
inline constexpr std::uint64_t kTokensMax = 2'147'483'647;
/// Largest latencyMs.
inline constexpr std::uint64_t kLatencyMax = 9'223'372'036'854'775'807;

inline constexpr std::array<std::string_view, 2> kStatusNames{"success", "error"};
inline constexpr std::array<std::string_view, 3> kDataModeNames{"real", "test", "demo"};
inline constexpr std::array<std::string_view, 3> kEnvironmentNames{"prod", "staging", "dev"};

/// The value of a number that is spelled with at most 19 digits and nothing else, as almost all
/// are.
[[nodiscard]] constexpr std::optional<std::uint64_t> plain_number(std::string_view text) noexcept {
    if (text.size() > std::numeric_limits<std::uint64_t>::digits10) return std::nullopt;
    std::uint64_t value = 0;
    for (const auto c : text) {
        const auto digit = static_cast<unsigned>(c) - '0';
        if (digit > 9) return std::nullopt;
        value = value * 10 + digit;
    }
    return value;
}

/// A JSON number, judged from its text without floating point: -12.50e1 is exactly -125.
struct Decimal {
    bool negative = false;  // below zero; -0 is not
    bool plain = false;     // spelled as digits only: no sign, point or exponent
    bool fraction = false;  // not a whole number
    bool round_up = false;  // the fraction is at least a half
    bool overflow = false;  // the whole part needs more than 64 bits
    std::uint64_t whole = 0;
};
/// `text` must follow the JSON number grammar.
[[nodiscard]] Decimal parse_decimal(std::string_view text) noexcept;
/// Length of the JSON number that starts at the front of `text`; 0 when there is none.
[[nodiscard]] std::size_t number_length(std::string_view text) noexcept;
/// True for -?digits: what may stand in for an identifier.
[[nodiscard]] bool is_integer_text(std::string_view number) noexcept;

/// `text` without Unicode white space at its ends. Valid UTF-8 expected.
[[nodiscard]] std::string_view trim(std::string_view text) noexcept;
/// True when trim() has nothing to do, judged by the bytes at the ends: ASCII and no space.
[[nodiscard]] constexpr bool plainly_trimmed(std::string_view text) noexcept {
    const auto plain = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte > 0x20 && byte < 0x80;
    };
    return !text.empty() && plain(text.front()) && plain(text.back());
}
/// True when there is no control character (C0, DEL, C1) and no line or paragraph separator.
[[nodiscard]] bool printable(std::string_view text) noexcept;
/// The allowed name that `text` spells, give or take case and white space at its ends.
[[nodiscard]] std::optional<std::string_view> spelled(
    std::string_view text, std::span<const std::string_view> names) noexcept;
/// True for what is probably an e-mail address or a telephone number: a guess that is only counted.
/// A plain number is taken for an id.
[[nodiscard]] bool looks_personal(std::string_view text) noexcept;
/// ISO 8601 in its extended form: a calendar date, optionally T and hh:mm, hh:mm:ss or
/// hh:mm:ss.fraction, then optionally Z or +hh:mm. Days and hours must exist.
[[nodiscard]] bool is_iso8601(std::string_view text) noexcept;

}  // namespace opsrelay::parse
