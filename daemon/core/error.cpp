#include "core/error.h"

#include <fmt/format.h>

#include <ostream>
#include <system_error>

namespace opsrelay {

std::ostream& operator<<(std::ostream& out, const Error& error) {
    return out << to_string(error.code) << ": " << error.context;
}

Error with_prefix(Error error, std::string_view prefix) {
    error.context.insert(0, fmt::format("{}: ", prefix));
    return error;
}

Error errno_error(Errc code, std::string_view what, int error_number, std::string_view next) {
    auto text = fmt::format("{}: {}", what, std::generic_category().message(error_number));
    if (!next.empty()) text += fmt::format("; {}", next);
    return {code, std::move(text)};
}

int exit_code(Errc code) noexcept {
    switch (code) {
        case Errc::config_invalid: return 2;
        case Errc::spool_locked: return 3;
        case Errc::spool_unusable: return 4;
        case Errc::address_in_use: return 5;
        case Errc::spool_full:
        case Errc::spool_busy:
        case Errc::spool_io:
        case Errc::spool_reopen:
        case Errc::spool_corrupt: return 6;
        case Errc::listener_failed:
        case Errc::io:
        case Errc::timed_out:
        case Errc::refused: return 1;
    }
    return 1;
}

}  // namespace opsrelay
