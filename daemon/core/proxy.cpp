#include "core/proxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

namespace opsrelay {

namespace {

constexpr std::size_t kProxyBytesMax = 2048;

Error invalid(std::string_view complaint) {
    return {
        Errc::config_invalid,
        fmt::format("*** {}; write http://host:port or http://user:password@host:port", complaint)};
}

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return out;
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// nullopt: a "%" without two digits, or an escaped control character.
std::optional<Secret> unescape(std::string_view text) {
    std::string out;
    out.reserve(text.size());  // so that growing leaves nothing behind
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '%') {
            if (i + 2 >= text.size()) return std::nullopt;
            const int high = hex_digit(text[i + 1]);
            const int low = hex_digit(text[i + 2]);
            if (high < 0 || low < 0) return std::nullopt;
            c = static_cast<char>(high * 16 + low);
            i += 2;
        }
        if (static_cast<unsigned char>(c) < 0x20 || c == '\x7f') return std::nullopt;
        out += c;
    }
    Secret secret{std::string_view(out)};
    ::explicit_bzero(out.data(), out.size());
    return secret;
}

std::optional<std::uint16_t> to_port(std::string_view text) {
    std::uint16_t port = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, port);
    if (parsed.ec != std::errc{} || parsed.ptr != end || port == 0) return std::nullopt;
    return port;
}

struct HostPort {
    std::string host;
    std::optional<std::uint16_t> port;
};

// "host", "host:port", "[v6]", "[v6]:port", or a bare v6 address.
std::optional<HostPort> split_host(std::string_view text) {
    HostPort out;
    std::string_view rest;
    if (text.starts_with('[')) {
        const auto close = text.find(']');
        if (close == std::string_view::npos) return std::nullopt;
        out.host = lower(text.substr(1, close - 1));
        rest = text.substr(close + 1);
    } else if (std::count(text.begin(), text.end(), ':') > 1) {
        out.host = lower(text);
    } else {
        const auto colon = text.find(':');
        out.host = lower(text.substr(0, colon));
        if (colon != std::string_view::npos) rest = text.substr(colon);
    }
    if (rest.empty()) return out;
    if (!rest.starts_with(':')) return std::nullopt;
    out.port = to_port(rest.substr(1));
    if (!out.port) return std::nullopt;
    return out;
}

// An address as 16 bytes, IPv4 mapped into IPv6.
using AddressBytes = std::array<unsigned char, 16>;

std::optional<AddressBytes> to_address(const std::string& text) {
    AddressBytes bytes{};
    if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return bytes;
    bytes[10] = bytes[11] = 0xff;
    if (::inet_pton(AF_INET, text.c_str(), bytes.data() + 12) == 1) return bytes;
    return std::nullopt;
}

bool is_host(const std::string& host) {
    constexpr std::string_view kNameBytes = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    if (host.find(':') != std::string::npos) return to_address(host).has_value();
    return !host.empty() && host.size() <= 253 &&
           host.find_first_not_of(kNameBytes) == std::string::npos;
}

bool in_network(std::string_view network, const AddressBytes& address) {
    const auto slash = network.find('/');
    const std::string base_text(network.substr(0, slash));
    const auto base = to_address(base_text);
    unsigned bits = 0;
    const auto length = network.substr(slash + 1);
    const char* const end = length.data() + length.size();
    const auto parsed = std::from_chars(length.data(), end, bits);
    if (!base || parsed.ec != std::errc{} || parsed.ptr != end) return false;
    const bool v4 = base_text.find(':') == std::string::npos;
    if (bits > (v4 ? 32U : 128U)) return false;
    if (v4) bits += 96;
    const auto whole = bits / 8;
    if (!std::equal(base->begin(), base->begin() + whole, address.begin())) return false;
    if (bits % 8 == 0) return true;
    const auto mask = static_cast<unsigned char>(0xff00U >> (bits % 8));
    return ((*base)[whole] & mask) == (address[whole] & mask);
}

bool entry_matches(std::string_view entry, const std::string& host,
                   const std::optional<AddressBytes>& address, std::uint16_t port) {
    if (entry == "*") return true;
    if (entry.find('/') != std::string_view::npos) return address && in_network(entry, *address);
    if (entry.starts_with("*.")) entry.remove_prefix(1);
    if (entry.starts_with('.')) entry.remove_prefix(1);
    const auto named = split_host(entry);
    if (!named || named->host.empty()) return false;
    if (named->port && *named->port != port) return false;
    if (address) return to_address(named->host) == address;
    return host == named->host || host.ends_with("." + named->host);
}

}  // namespace

Result<Proxy> parse_proxy(std::string_view text) {
    if (text.size() > kProxyBytesMax) {
        return invalid(fmt::format("has more than {} bytes", kProxyBytesMax));
    }
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; })) {
        return invalid("contains spaces or characters that a URL cannot have");
    }
    const auto scheme_end = text.find("://");
    if (scheme_end != std::string_view::npos) {
        if (lower(text.substr(0, scheme_end)) != "http") {
            return invalid("names a proxy that is not reached by http://");
        }
        text.remove_prefix(scheme_end + 3);
    }
    Proxy proxy;
    const auto at = text.rfind('@');
    if (at != std::string_view::npos) {
        const auto credentials = text.substr(0, at);
        const auto colon = credentials.find(':');
        auto user = unescape(credentials.substr(0, colon));
        auto password =
            unescape(colon == std::string_view::npos ? "" : credentials.substr(colon + 1));
        // RFC 7617: a colon would end the user's name.
        if (!user || !password || user->empty() ||
            user->view().find(':') != std::string_view::npos) {
            return invalid("has a user or password that cannot be sent");
        }
        proxy.user = std::move(*user);
        proxy.password = std::move(*password);
        text.remove_prefix(at + 1);
    }
    if (text.ends_with('/')) text.remove_suffix(1);
    if (text.find_first_of("/?#") != std::string_view::npos) return invalid("has a path");
    const bool bracketed = text.starts_with('[');
    auto where = split_host(text);
    if (!where || !is_host(where->host) ||
        bracketed != (where->host.find(':') != std::string::npos)) {
        return invalid("has no valid host and port");
    }
    proxy.host = std::move(where->host);
    proxy.port = where->port.value_or(proxy.port);
    return proxy;
}

std::string show_proxy(const Proxy& proxy) {
    const bool v6 = proxy.host.find(':') != std::string::npos;
    return fmt::format("http://{}{}{}{}:{}", proxy.user.empty() ? "" : "***@", v6 ? "[" : "",
                       proxy.host, v6 ? "]" : "", proxy.port);
}

bool bypasses_proxy(std::string_view no_proxy, std::string_view host, std::uint16_t port) {
    const auto name = lower(host);
    const auto address = to_address(name);
    constexpr std::string_view kBetween = ", \t";
    while (!no_proxy.empty()) {
        const auto begin = no_proxy.find_first_not_of(kBetween);
        if (begin == std::string_view::npos) return false;
        no_proxy.remove_prefix(begin);
        const auto end = no_proxy.find_first_of(kBetween);
        if (entry_matches(no_proxy.substr(0, end), name, address, port)) return true;
        if (end == std::string_view::npos) return false;
        no_proxy.remove_prefix(end);
    }
    return false;
}

}  // namespace opsrelay
