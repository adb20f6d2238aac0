// The head of an HTTP/1.1 reply, as far as the commands need it.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "core/error.h"

namespace opsrelay::cli {

/// The body ends with Content-Length or, without one, with the connection; we never ask for
/// anything that is sent in chunks.
struct HttpHead {
    int status = 0;
    std::size_t size = 0;  // with its empty line
    std::optional<std::size_t> length;
};

/// nullopt: there must be more of it (RFC 9112). Error: refused, that is no reply of an opsrelay.
[[nodiscard]] Result<std::optional<HttpHead>> parse_http_head(std::string_view bytes);

/// "the answer is not from opsrelay: why".
[[nodiscard]] Error not_http(std::string_view why);

}  // namespace opsrelay::cli
