// How the desk says no.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "control/admin_server.h"
#include "core/error.h"
#include "core/json_text.h"

namespace opsrelay::operate {

/// `reason` is a word for programs, `message` a sentence.
[[nodiscard]] inline control::AdminResponse refusal(unsigned status, std::string_view reason,
                                                    std::string_view message) {
    return {.status = status,
            .body = fmt::format(R"({{"ok":false,"reason":{},"message":{}}})", json_string(reason),
                                json_string(message))};
}

/// 400 for what was asked wrongly, 503 for a spool that refuses.
[[nodiscard]] inline control::AdminResponse refusal(const Error& error) {
    const bool asked_wrong = error.code == Errc::config_invalid;
    return refusal(asked_wrong ? 400 : 503, asked_wrong ? "bad_request" : to_string(error.code),
                   error.context);
}

}  // namespace opsrelay::operate
