#include "config/fields.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <numeric>
#include <vector>

namespace opsrelay::config {

namespace {

constexpr std::string_view kUnixScheme = "unix:";

struct Unit {
    std::string_view name;
    std::uint64_t factor;
};
// From the largest to the smallest, so that the first exact one is the shortest text.
constexpr std::array<Unit, 5> kDurationUnits{
    {{"h", 3'600'000}, {"m", 60'000}, {"min", 60'000}, {"s", 1'000}, {"ms", 1}}};
constexpr std::array<Unit, 5> kByteUnits{{{"TiB", std::uint64_t{1} << 40U},
                                          {"GiB", std::uint64_t{1} << 30U},
                                          {"MiB", std::uint64_t{1} << 20U},
                                          {"KiB", std::uint64_t{1} << 10U},
                                          {"B", 1}}};

// A whole number followed by one of the units; nullopt also when it does not fit 63 bits.
template <std::size_t N>
std::optional<std::uint64_t> parse_quantity(std::string_view text,
                                            const std::array<Unit, N>& units) {
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, number);
    if (parsed.ec != std::errc{}) return std::nullopt;
    const std::string_view rest(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
    for (const auto& unit : units) {
        if (rest != unit.name) continue;
        constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
        if (number > kMax / unit.factor) return std::nullopt;
        return number * unit.factor;
    }
    return std::nullopt;
}

template <std::size_t N>
std::string format_quantity(std::uint64_t value, const std::array<Unit, N>& units) {
    for (const auto& unit : units) {
        if (value % unit.factor == 0) return fmt::format("{}{}", value / unit.factor, unit.name);
    }
    return fmt::format("{}{}", value, units.back().name);
}

Error invalid(std::string_view key, std::string_view complaint) {
    return {Errc::config_invalid, fmt::format("{}: {}", key, complaint)};
}

bool has_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte == 0x7f;
    });
}

bool is_visible_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

// Splits "address:port" or "[address]:port"; the address may be empty.
std::optional<Endpoint> split_endpoint(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    auto host = text.substr(0, colon);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
        if (host.find(':') == std::string_view::npos) return std::nullopt;
    } else if (host.find(':') != std::string_view::npos) {
        return std::nullopt;  // IPv6 needs brackets
    }
    const auto port = port_field("", text.substr(colon + 1));
    if (!port) return std::nullopt;
    return Endpoint{std::string(host), *port};
}

bool is_numeric(const std::string& address) {
    std::array<unsigned char, sizeof(in6_addr)> bytes{};
    return ::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1 ||
           ::inet_pton(AF_INET6, address.c_str(), bytes.data()) == 1;
}

std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const bool same = std::tolower(static_cast<unsigned char>(a[i])) ==
                              std::tolower(static_cast<unsigned char>(b[j]));
            const auto replaced = diagonal + (same ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
        }
    }
    return row.back();
}

std::string_view last_part(std::string_view name) {
    const auto dot = name.rfind('.');
    return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

// The path of a socket behind unix:.
Result<std::string> unix_url_field(std::string_view key, std::string_view text) {
    const auto path = path_field(key, text.substr(kUnixScheme.size()), true);
    if (!path) return path.error();
    if (path->size() < sizeof(sockaddr_un::sun_path))
        return fmt::format("{}{}", kUnixScheme, *path);
    return invalid(key, fmt::format("{} is too long for a socket: its path may have {} bytes", text,
                                    sizeof(sockaddr_un::sun_path) - 1));
}

}  // namespace

Result<milliseconds> parse_duration(std::string_view text) {
    if (text == "0") return milliseconds{0};
    const auto value = parse_quantity(text, kDurationUnits);
    if (value) return milliseconds(static_cast<std::int64_t>(*value));
    return Error{Errc::config_invalid,
                 fmt::format("\"{}\" is not a duration; write a number and ms, s, m or h, such "
                             "as 30s",
                             text)};
}

Result<Bytes> parse_bytes(std::string_view text) {
    const auto value = parse_quantity(text, kByteUnits);
    if (value) return Bytes{*value};
    return Error{Errc::config_invalid,
                 fmt::format("\"{}\" is not a size; write 512KiB or 64MiB", text)};
}

Result<milliseconds> duration_field(std::string_view key, std::string_view text,
                                    Range<milliseconds> allowed) {
    const auto value = parse_duration(text);
    if (!value) return with_prefix(value.error(), key);
    if (*value >= allowed.min && *value <= allowed.max) return value;
    return invalid(key, fmt::format("{}ms is outside [{}ms, {}ms]", value->count(),
                                    allowed.min.count(), allowed.max.count()));
}

Result<Bytes> bytes_field(std::string_view key, std::string_view text, Range<Bytes> allowed) {
    const auto value = parse_bytes(text);
    if (!value) return with_prefix(value.error(), key);
    if (*value >= allowed.min && *value <= allowed.max) return value;
    return invalid(key, fmt::format("{} is outside [{}, {}]", format_bytes(*value),
                                    format_bytes(allowed.min), format_bytes(allowed.max)));
}

Result<std::uint64_t> count_field(std::string_view key, std::string_view text,
                                  Range<std::uint64_t> allowed) {
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    if (parsed.ec == std::errc::invalid_argument || parsed.ptr != end) {
        return invalid(key, fmt::format("\"{}\" is not a whole number", text));
    }
    if (parsed.ec == std::errc{} && value >= allowed.min && value <= allowed.max) return value;
    return invalid(key, fmt::format("{} is outside [{}, {}]", text, allowed.min, allowed.max));
}

Result<bool> bool_field(std::string_view key, std::string_view text) {
    if (text == "true") return true;
    if (text == "false") return false;
    return invalid(key, fmt::format("\"{}\" is neither true nor false", text));
}

Result<std::uint16_t> port_field(std::string_view key, std::string_view text) {
    const auto value = count_field(key, text, {0, 65'535});
    if (!value) return value.error();
    return static_cast<std::uint16_t>(*value);
}

Result<Endpoint> any_endpoint_field(std::string_view key, std::string_view text) {
    auto split = split_endpoint(text);
    if (split && is_numeric(split->address)) return *std::move(split);
    return invalid(key, fmt::format("\"{}\" is not an address with a port; write "
                                    "127.0.0.1:8710 or [::1]:8710",
                                    text));
}

Result<Endpoint> endpoint_field(std::string_view key, std::string_view text) {
    auto endpoint = any_endpoint_field(key, text);
    if (!endpoint || is_loopback(endpoint->address)) return endpoint;
    return invalid(key, fmt::format("{} is not a loopback address; use 127.0.0.1 or [::1]",
                                    endpoint->address));
}

Result<std::uint32_t> mode_field(std::string_view key, std::string_view text) {
    std::uint32_t value = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value, 8);
    if (parsed.ec != std::errc{} || parsed.ptr != end) {
        return invalid(key, fmt::format("\"{}\" is not a mode; write it in octal, \"0660\"", text));
    }
    if (value <= 0777) return value;
    return invalid(key, fmt::format("{:#o} is outside [0, 0777]", value));
}

Result<std::string> path_field(std::string_view key, std::string_view text, bool absolute) {
    constexpr std::size_t kPathMax = 4095;
    if (text.empty()) return invalid(key, "the path is empty");
    if (text.size() > kPathMax) {
        return invalid(key,
                       fmt::format("the path has {} bytes, more than {}", text.size(), kPathMax));
    }
    if (has_control(text)) return invalid(key, "the path contains a control character");
    if (absolute && text.front() != '/') {
        return invalid(key, fmt::format("\"{}\" is not an absolute path", text));
    }
    // "/" stays; "/x/" becomes "/x", so that joined paths read well.
    while (text.size() > 1 && text.back() == '/') text.remove_suffix(1);
    return std::string(text);
}

Result<std::string> url_field(std::string_view key, std::string_view text) {
    if (text.starts_with(kUnixScheme)) return unix_url_field(key, text);
    const std::string_view shown = text.find('@') == std::string_view::npos ? text : "***";
    const auto refuse = [&](std::string_view why) {
        return invalid(
            key, fmt::format("\"{}\" {}; write https://host or https://host:port", shown, why));
    };
    const bool https = text.starts_with("https://");
    if (!https && !text.starts_with("http://"))
        return refuse("is not an http or https URL, nor unix: and a path");
    auto rest = text.substr(https ? 8 : 7);
    if (rest.ends_with('/')) rest.remove_suffix(1);
    if (!is_visible_ascii(rest)) return refuse("contains characters that a URL cannot have");
    if (rest.find('@') != std::string_view::npos) return refuse("contains a user name");
    if (rest.find_first_of("/?#") != std::string_view::npos) {
        return refuse("has a path, which belongs into upstream.path");
    }
    auto host = rest;
    const auto bracket = rest.rfind(']');
    const auto colon = rest.rfind(':');
    if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
        const auto port = count_field(key, rest.substr(colon + 1), {1, 65'535});
        if (!port) return port.error();
        host = rest.substr(0, colon);
    }
    const bool bracketed = host.starts_with('[') && host.ends_with(']');
    if (bracketed && !is_numeric(std::string(host.substr(1, host.size() - 2)))) {
        return refuse("has no valid IPv6 address in brackets");
    }
    constexpr std::string_view kNameCharacters =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (host.empty() ||
        (!bracketed && host.find_first_not_of(kNameCharacters) != std::string_view::npos)) {
        return refuse("has no valid host name");
    }
    return fmt::format("{}{}", https ? "https://" : "http://", rest);
}

Result<std::string> url_path_field(std::string_view key, std::string_view text) {
    if (text.starts_with('/') && is_visible_ascii(text) && text.size() <= 1024 &&
        text.find_first_of("?#") == std::string_view::npos) {
        return std::string(text);
    }
    return invalid(key, fmt::format("\"{}\" is not a path; write /v1/ingest/llm-request", text));
}

std::string_view url_host(std::string_view url) {
    const auto scheme = url.find("://");
    auto rest = scheme == std::string_view::npos ? url : url.substr(scheme + 3);
    if (rest.starts_with('[')) return rest.substr(1, rest.find(']') - 1);
    return rest.substr(0, rest.find(':'));
}

bool is_loopback(std::string_view host) {
    if (host == "localhost") return true;
    const std::string text(host);
    in_addr v4{};
    if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24U) == 127;
    in6_addr v6{};
    return ::inet_pton(AF_INET6, text.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string format_duration(milliseconds value) {
    if (value.count() <= 0) return "0s";
    return format_quantity(static_cast<std::uint64_t>(value.count()), kDurationUnits);
}

std::string format_bytes(Bytes value) {
    return value.count == 0 ? "0B" : format_quantity(value.count, kByteUnits);
}

std::string format_endpoint(std::string_view address, std::uint16_t port) {
    const bool v6 = address.find(':') != std::string_view::npos;
    return v6 ? fmt::format("[{}]:{}", address, port) : fmt::format("{}:{}", address, port);
}

std::optional<std::string_view> nearest(std::string_view word,
                                        std::span<const std::string_view> candidates) {
    std::optional<std::string_view> best;
    auto best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    // A hostile key must not cost quadratic time.
    if (word.size() > 256) return std::nullopt;
    for (const auto candidate : candidates) {
        auto d = distance(word, candidate);
        if (last_part(word) == last_part(candidate)) d = std::min<std::size_t>(d, 2);
        if (d >= best_distance) continue;
        best = candidate;
        best_distance = d;
    }
    return best;
}

}  // namespace opsrelay::config
