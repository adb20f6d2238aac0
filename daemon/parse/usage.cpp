#include "parse/usage.h"

#include <array>
#include <span>

namespace opsrelay::parse {

namespace {

// A count is the sum of these parts, the absent ones being 0; without any of them it is not there.
struct Source {
    std::array<InnerField, 3> parts;
    std::size_t count;
};

// In the order in which they are asked. A gateway that sends OpenAI's chat names beside others
// means the whole prompt by prompt_tokens, cached parts included. Anthropic's input_tokens are
// without what was written to or read from the cache. Gemini's candidates are without thoughts.
constexpr std::array<Source, 3> kInput{{
    {{InnerField::prompt_tokens}, 1},
    {{InnerField::input_tokens, InnerField::cache_creation_input_tokens,
      InnerField::cache_read_input_tokens},
     3},
    {{InnerField::prompt_token_count, InnerField::tool_use_prompt_token_count}, 2},
}};
constexpr std::array<Source, 3> kOutput{{
    {{InnerField::completion_tokens}, 1},
    {{InnerField::output_tokens}, 1},
    {{InnerField::candidates_token_count, InnerField::thoughts_token_count}, 2},
}};
constexpr std::array<Source, 2> kTotal{{
    {{InnerField::total_tokens}, 1},
    {{InnerField::total_token_count}, 1},
}};

std::optional<TokenFault> sum_up(const Outline& outline, std::span<const InnerField> parts,
                                 std::optional<std::uint64_t>& sum) noexcept {
    for (const auto part : parts) {
        const auto& value = outline[part];
        if (value.missing() && !value.repeated) continue;
        if (value.repeated) return TokenFault{to_string(part), "must not stand twice"};
        const auto number = value.kind == ValueKind::number;
        const auto count = number ? token_count(parse_decimal(value.text)) : std::nullopt;
        if (!count) return TokenFault{to_string(part), "must be an integer from 0 to 2147483647"};
        sum = sum.value_or(0) + *count;
        if (*sum > kTokensMax) {
            return TokenFault{to_string(part), "must be at most 2147483647 with what it adds to"};
        }
    }
    return std::nullopt;
}

std::optional<TokenFault> fill(const Outline& outline, std::span<const Source> sources,
                               std::optional<std::uint64_t>& count) noexcept {
    for (const auto& source : sources) {
        if (count) return std::nullopt;
        if (const auto fault = sum_up(outline, std::span(source.parts).first(source.count), count))
            return fault;
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> token_count(const Decimal& number) noexcept {
    if (number.negative || number.fraction || number.overflow || number.whole > kTokensMax) {
        return std::nullopt;
    }
    return number.whole;
}

bool has_usage(const Outline& outline, Field section) noexcept {
    if (outline[section].kind != ValueKind::object) return false;
    for (const auto& row : kInnerFields) {
        const auto& name = row.name;
        if (!outline[row.value].missing() && name.starts_with(to_string(section)) &&
            name[to_string(section).size()] == '.') {
            return true;
        }
    }
    return false;
}

std::optional<TokenFault> fill_from_usage(const Outline& outline, TokenCounts& counts) noexcept {
    if (const auto fault = fill(outline, kInput, counts.input)) return fault;
    if (const auto fault = fill(outline, kOutput, counts.output)) return fault;
    return fill(outline, kTotal, counts.total);
}

}  // namespace opsrelay::parse
