// For our own bugs only, never for input, peers or disks. On in release builds too: a daemon that
// goes on in an impossible state can lose what it accepted.
#pragma once

namespace opsrelay::detail {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace opsrelay::detail

// A macro because the message needs the expression, the file and the line.
#define OPSRELAY_ASSERT(condition)                                                \
    do {                                                                          \
        if (!(condition)) [[unlikely]]                                            \
            ::opsrelay::detail::assertion_failed(#condition, __FILE__, __LINE__); \
    } while (false)
