// Token counts: what a count may be, and where an event that lacks one may still have it: in the
// usage object of a provider's reply, passed on as it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "parse/outline.h"

namespace opsrelay::parse {

/// nullopt: the number is none from 0 to kTokensMax without a fraction.
[[nodiscard]] std::optional<std::uint64_t> token_count(const Decimal& number) noexcept;

/// inputTokens, outputTokens and totalTokens as far as they are known.
struct TokenCounts {
    std::optional<std::uint64_t> input;
    std::optional<std::uint64_t> output;
    std::optional<std::uint64_t> total;

    [[nodiscard]] bool complete() const noexcept { return input && output && total; }
};

/// A count that is needed and wrong: `field` such as "usage.prompt_tokens", and the rule it breaks.
struct TokenFault {
    std::string_view field;
    std::string_view rule;
};

/// True when `section` (usage, usageMetadata) is an object with a member that is known here and not
/// null.
[[nodiscard]] bool has_usage(const Outline& outline, Field section) noexcept;

/// Fills the counts that are absent from the usage objects, as far as they have them; looks at
/// nothing else. What the names mean: proto/README.md.
[[nodiscard]] std::optional<TokenFault> fill_from_usage(const Outline& outline,
                                                        TokenCounts& counts) noexcept;

}  // namespace opsrelay::parse
