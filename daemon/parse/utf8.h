// UTF-8 as the Unicode standard defines it (table 3-7): no overlong forms, no surrogates, nothing
// above U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace opsrelay::parse {

/// Offset of the first byte that does not begin a well-formed sequence; npos when all is well.
[[nodiscard]] std::size_t first_invalid_utf8(std::string_view text) noexcept;

/// Offset of the first \uDC00..\uDFFF escape without a high surrogate before it, or of a high one
/// without a low one after it; npos when there is none. `text` must be valid JSON.
[[nodiscard]] std::size_t first_lone_surrogate(std::string_view text) noexcept;

}  // namespace opsrelay::parse
