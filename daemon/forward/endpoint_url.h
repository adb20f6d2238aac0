// upstream.url, taken apart and checked once at start-up.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "forward/options.h"

namespace opsrelay::forward {

struct Endpoint {
    bool tls = true;
    std::string host;  // a name or a numeric address, without brackets
    std::uint16_t port = 443;
    bool numeric = false;  // `host` is an address: no name resolution, no SNI
    std::string
        host_header;        // host as it goes into the Host header, port only when not the default
    std::string unix_path;  // a Unix socket instead of host and port; "": none
    std::string prefix;     // path of the URL without a trailing slash; "" or "/x"

    /// The request target for an absolute path.
    [[nodiscard]] std::string target(std::string_view path) const {
        return prefix + std::string(path);
    }
};

/// `unix:/path` of a socket, spoken to in plain HTTP; or `http://` or `https://`, a host, an
/// optional port and an optional path prefix. User information,
/// queries, fragments, spaces and non-ASCII bytes are refused; so is plain http to a host that is
/// not loopback unless allow_plaintext. Also checks that the paths begin with a slash. Errors:
/// config_invalid, naming key and value.
[[nodiscard]] Result<Endpoint> parse_endpoint(const Options& options);

}  // namespace opsrelay::forward
