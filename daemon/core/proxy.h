// An HTTP proxy as a URL names it: in the configuration, in HTTPS_PROXY and HTTP_PROXY.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/secret.h"

namespace opsrelay {

/// Reached by plain TCP, asked for a tunnel by CONNECT.
struct Proxy {
    std::string host;  // a name or a numeric address, without brackets
    std::uint16_t port = 80;
    Secret user;  // empty: no credentials are sent
    Secret password;
    bool operator==(const Proxy&) const = default;
};

/// "http://[user[:password]@]host[:port]", the scheme may be missing; user and password with
/// percent escapes. Error: config_invalid; its context says what is wrong and never repeats the
/// text, which may hold a password.
[[nodiscard]] Result<Proxy> parse_proxy(std::string_view text);

/// As a URL that parse_proxy() reads, with *** for credentials.
[[nodiscard]] std::string show_proxy(const Proxy& proxy);

/// Whether NO_PROXY says that `host` is to be reached directly: a list, by commas or spaces, of
/// "*", names (which mean what is below them too, with or without a leading dot or "*."),
/// addresses, and networks such as 10.0.0.0/8; each name or address perhaps with a port.
[[nodiscard]] bool bypasses_proxy(std::string_view no_proxy, std::string_view host,
                                  std::uint16_t port);

}  // namespace opsrelay
