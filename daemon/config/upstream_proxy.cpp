#include "config/upstream_proxy.h"

#include <fmt/format.h>

#include <charconv>
#include <system_error>

#include "config/fields.h"
#include "core/proxy.h"

namespace opsrelay::config {

namespace {

constexpr std::string_view kOff = "off";

struct Named {
    std::string_view name;
    std::string_view text;
};

// The first of the variables that is not empty.
Named first_of(const Environment& environment, std::string_view small, std::string_view large) {
    for (const auto name : {small, large}) {
        const auto found = environment.variables.find(std::string(name));
        if (found != environment.variables.end() && !found->second.empty()) {
            return {name, found->second};
        }
    }
    return {};
}

std::uint16_t url_port(std::string_view url) {
    const std::uint16_t usual = url.starts_with("https://") ? 443 : 80;
    const auto colon = url.rfind(':');
    if (url.ends_with(']') || colon == std::string_view::npos) return usual;
    std::uint16_t port = 0;
    const char* const end = url.data() + url.size();
    const auto parsed = std::from_chars(url.data() + colon + 1, end, port);
    return parsed.ec == std::errc{} && parsed.ptr == end ? port : usual;
}

}  // namespace

Result<void> assign_proxy(forward::Options& upstream, std::string_view key, std::string_view text) {
    upstream.proxy.reset();
    upstream.proxy_off = text == kOff;
    if (text.empty() || upstream.proxy_off) return {};
    auto proxy = parse_proxy(text);
    if (!proxy) return with_prefix(proxy.error(), key);
    upstream.proxy = std::move(*proxy);
    return {};
}

std::string show_upstream_proxy(const forward::Options& upstream) {
    if (upstream.proxy) return show_proxy(*upstream.proxy);
    return std::string(upstream.proxy_off ? kOff : "");
}

Result<void> settle_proxy(forward::Options& upstream, const Environment& environment) {
    if (upstream.proxy || upstream.proxy_off) return {};
    const bool https = upstream.url.starts_with("https://");
    if (!https && !upstream.url.starts_with("http://")) return {};
    const auto named = https ? first_of(environment, "https_proxy", "HTTPS_PROXY")
                             : first_of(environment, "http_proxy", "HTTP_PROXY");
    const auto host = url_host(upstream.url);
    const auto direct = first_of(environment, "no_proxy", "NO_PROXY");
    if (named.text.empty() || is_loopback(host)) return {};
    if (bypasses_proxy(direct.text, host, url_port(upstream.url))) return {};
    auto proxy = parse_proxy(named.text);
    if (!proxy) {
        return Error{Errc::config_invalid,
                     fmt::format("environment variable {}: {}, or set upstream.proxy: off",
                                 named.name, proxy.error().context)};
    }
    upstream.proxy = std::move(*proxy);
    return {};
}

}  // namespace opsrelay::config
