// Reads a file that holds something secret: keys, tokens.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"
#include "core/secret.h"

namespace opsrelay {

/// The whole file, whose bytes stay nowhere else. `what` names it in errors ("API key file /x"),
/// `next` says what to do; its content is never told. Errors: io (not readable), config_invalid
/// (not a regular file, over `bytes_max`).
[[nodiscard]] Result<Secret> read_secret_file(const std::string& path, std::string_view what,
                                              std::size_t bytes_max, std::string_view next);

}  // namespace opsrelay
