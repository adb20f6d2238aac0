// Text as a JSON string (RFC 8259 section 7).
#pragma once

#include <string>
#include <string_view>

namespace opsrelay {

/// With its quotes. Control characters, DEL included, are escaped, so the result never breaks a
/// line; YAML reads it alike. Other bytes stay as they are.
[[nodiscard]] std::string json_string(std::string_view text);

}  // namespace opsrelay
