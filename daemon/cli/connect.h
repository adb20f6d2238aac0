// Blocking use of non-blocking sockets: connect and wait, each with a deadline.
#pragma once

#include <cstdint>
#include <string>

#include "core/clock.h"
#include "core/error.h"
#include "core/unique_fd.h"

namespace opsrelay::cli {

/// A connected, non-blocking stream socket. Errors: io, timed_out, with path and cause.
[[nodiscard]] Result<UniqueFd> connect_unix(const std::string& path, const Clock& clock,
                                            TimePoint due);
/// The socket at `path` cannot be connected to because this user may not.
[[nodiscard]] bool is_denied(const std::string& path);
/// `address` is numeric. Errors as above.
[[nodiscard]] Result<UniqueFd> connect_tcp(const std::string& address, std::uint16_t port,
                                           const Clock& clock, TimePoint due);

/// Waits until one of the poll(2) `events` or an error is there. Errors: io, timed_out.
[[nodiscard]] Result<void> wait_for(int fd, short events, const Clock& clock, TimePoint due);

/// Milliseconds until `due`, rounded up, for poll(2); 0 when it has passed.
[[nodiscard]] int poll_timeout(const Clock& clock, TimePoint due);

}  // namespace opsrelay::cli
