#include "forward/endpoint_url.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <optional>

namespace opsrelay::forward {

namespace {

namespace ip = boost::asio::ip;

constexpr std::string_view kUnixScheme = "unix:";

Error invalid(std::string_view key, std::string_view value, std::string_view complaint) {
    return {Errc::config_invalid, fmt::format("{}: \"{}\": {}", key, value, complaint)};
}

bool visible_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return out;
}

bool is_name(std::string_view host) {
    constexpr std::string_view kNameBytes = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    return !host.empty() && host.size() <= 253 &&
           host.find_first_not_of(kNameBytes) == std::string_view::npos;
}

std::optional<ip::address> to_address(const std::string& host) {
    boost::system::error_code ec;
    auto address = ip::make_address(host, ec);
    if (ec) return std::nullopt;
    return address;
}

bool is_loopback(const Endpoint& endpoint, const std::optional<ip::address>& address) {
    if (address) return address->is_loopback();
    return endpoint.host == "localhost" || endpoint.host.ends_with(".localhost");
}

struct Authority {
    std::string host;
    std::string_view port;
    bool bracketed = false;
};

std::optional<Authority> split_authority(std::string_view text) {
    Authority parts;
    std::string_view rest;
    if (text.starts_with('[')) {
        const auto close = text.find(']');
        if (close == std::string_view::npos) return std::nullopt;
        parts.bracketed = true;
        parts.host = lower(text.substr(1, close - 1));
        rest = text.substr(close + 1);
    } else {
        const auto colon = text.find(':');
        parts.host = lower(text.substr(0, colon));
        rest = colon == std::string_view::npos ? std::string_view{} : text.substr(colon);
    }
    if (rest.empty()) return parts;
    if (!rest.starts_with(':') || rest.size() == 1) return std::nullopt;
    parts.port = rest.substr(1);
    return parts;
}

std::optional<std::uint16_t> to_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto* end = text.data() + text.size();
    const auto [stop, ec] = std::from_chars(text.data(), end, port);
    if (ec != std::errc{} || stop != end || port == 0) return std::nullopt;
    return port;
}

Result<Endpoint> parse_unix(std::string_view url) {
    const auto path = url.substr(kUnixScheme.size());
    if (!path.starts_with('/') || path.find('\0') != std::string_view::npos) {
        return invalid("upstream.url", url, "write unix: and the absolute path of a socket");
    }
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
        return invalid(
            "upstream.url", url,
            fmt::format("a socket's path has at most {} bytes", sizeof(sockaddr_un::sun_path) - 1));
    }
    Endpoint endpoint;
    endpoint.tls = false;
    endpoint.host = endpoint.host_header = "localhost";
    endpoint.port = 80;
    endpoint.unix_path = path;
    return endpoint;
}

Result<Endpoint> parse_url(std::string_view url, bool allow_plaintext) {
    const auto bad = [&](std::string_view complaint) {
        return invalid("upstream.url", url, complaint);
    };
    Endpoint endpoint;
    const auto scheme_end = url.find("://");
    const auto scheme = lower(url.substr(0, scheme_end));
    if (url.starts_with(kUnixScheme)) return parse_unix(url);
    if (scheme_end == std::string_view::npos || (scheme != "http" && scheme != "https")) {
        return bad("begin it with https://, http:// or unix:/");
    }
    endpoint.tls = scheme == "https";
    if (!visible_ascii(url)) return bad("it must not contain spaces or non-ASCII characters");
    auto rest = url.substr(scheme_end + 3);
    if (rest.find_first_of("?#") != std::string_view::npos) {
        return bad("a query or fragment cannot be used; give scheme, host and port");
    }
    const auto slash = rest.find('/');
    endpoint.prefix = slash == std::string_view::npos ? "" : std::string(rest.substr(slash));
    while (endpoint.prefix.ends_with('/')) endpoint.prefix.pop_back();
    rest = rest.substr(0, slash);
    if (rest.find('@') != std::string_view::npos) {
        // The value may hold a password: it is not repeated.
        return Error{Errc::config_invalid,
                     "upstream.url: user information cannot be used; the API key belongs into "
                     "upstream.api_key_file"};
    }
    const auto authority = split_authority(rest);
    if (!authority) return bad("host and port must look like host:443 or [::1]:443");
    endpoint.host = authority->host;
    const auto address = to_address(endpoint.host);
    if (authority->bracketed != (address && address->is_v6())) {
        return bad("an IPv6 address, and nothing else, stands in brackets: [::1]:443");
    }
    if (!address && !is_name(endpoint.host)) return bad("the host is not a name or an address");
    endpoint.numeric = address.has_value();
    endpoint.port = endpoint.tls ? 443 : 80;
    const auto default_port = endpoint.port;
    if (!authority->port.empty()) {
        const auto port = to_port(authority->port);
        if (!port) return bad("the port must be 1 to 65535");
        endpoint.port = *port;
    }
    endpoint.host_header =
        authority->bracketed ? fmt::format("[{}]", endpoint.host) : endpoint.host;
    if (endpoint.port != default_port) endpoint.host_header += fmt::format(":{}", endpoint.port);
    if (!endpoint.tls && !allow_plaintext && !is_loopback(endpoint, address)) {
        return bad(
            "plain http would send the API key in clear text to another host; use https://, "
            "or set upstream.allow_plaintext: true");
    }
    return endpoint;
}

}  // namespace

Result<Endpoint> parse_endpoint(const Options& options) {
    const auto check_path = [](std::string_view key, std::string_view path) -> Result<void> {
        if (path.starts_with('/') && visible_ascii(path) &&
            path.find('#') == std::string_view::npos) {
            return {};
        }
        return invalid(key, path, "it must begin with / and contain no spaces");
    };
    if (auto ok = check_path("upstream.path", options.target_path()); !ok) return ok.error();
    if (auto ok = check_path("upstream.status_path", options.status_path); !ok) return ok.error();
    return parse_url(options.url, options.allow_plaintext);
}

}  // namespace opsrelay::forward
