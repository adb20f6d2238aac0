// Rules that keep web pages away from the HTTP listeners on loopback. A browser can be made to send
// requests to 127.0.0.1 (CSRF) or to a name that resolves to it (DNS rebinding); it cannot hide the
// Host and Origin headers it sends (Fetch standard, "forbidden request-header").
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace opsrelay {

/// True for localhost, 127.0.0.1 and [::1], with or without a port, in any case.
[[nodiscard]] bool is_local_host(std::string_view host) noexcept;
/// True when `host` is one of `names`, likewise.
[[nodiscard]] bool is_named_host(std::string_view host,
                                 std::span<const std::string> names) noexcept;
/// True when `origin` is empty (not a browser) or a local http(s) origin.
[[nodiscard]] bool is_local_origin(std::string_view origin) noexcept;

}  // namespace opsrelay
