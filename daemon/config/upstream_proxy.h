// The key `proxy` of an upstream, and the proxy that the environment names for it.
#pragma once

#include <string>
#include <string_view>

#include "config/config.h"
#include "core/error.h"
#include "forward/options.h"

namespace opsrelay::config {

/// "http://[user:password@]host:port"; "off": none, whatever the environment says; "": that one.
/// Error: config_invalid, without the text.
[[nodiscard]] Result<void> assign_proxy(forward::Options& upstream, std::string_view key,
                                        std::string_view text);
/// As assign_proxy() reads it, with *** for credentials.
[[nodiscard]] std::string show_upstream_proxy(const forward::Options& upstream);

/// Without a key `proxy`: takes the one of HTTPS_PROXY or, for an http:// URL, HTTP_PROXY (the
/// names in small letters come first), unless NO_PROXY names the host or the host is this machine.
/// Error: config_invalid, naming the variable.
[[nodiscard]] Result<void> settle_proxy(forward::Options& upstream, const Environment& environment);

}  // namespace opsrelay::config
