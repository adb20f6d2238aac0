// A GET over the admin socket or the admin port, or a POST over the socket.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/error.h"

namespace opsrelay::cli {

/// A larger reply is refused.
inline constexpr std::size_t kReplyBytesMax = 4U << 20U;

/// A Unix socket, or a numeric address with a port when `socket` is empty.
struct AdminTarget {
    std::string socket;
    std::string address;
    std::uint16_t port = 0;

    /// For messages: the path or address:port.
    [[nodiscard]] std::string name() const;
};

struct HttpReply {
    int status = 0;
    std::string body;
};

/// HTTP/1.1 with `Connection: close`. Errors: io, timed_out, refused (not an HTTP reply, or one
/// that is cut short or too large), each with the target's name.
[[nodiscard]] Result<HttpReply> http_get(const AdminTarget& target, std::string_view path,
                                         const Clock& clock, TimePoint due);
/// The same with a JSON body.
[[nodiscard]] Result<HttpReply> http_post(const AdminTarget& target, std::string_view path,
                                          std::string_view body, const Clock& clock, TimePoint due);

}  // namespace opsrelay::cli
