// From text to typed values, one function per kind of field. A refusal names key, value and what is
// allowed. Durations and sizes need a unit in the text.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/enum_table.h"
#include "core/error.h"
#include "core/units.h"

namespace opsrelay::config {

/// Both ends are allowed.
template <typename T>
struct Range {
    T min;
    T max;
};

/// A numeric IP address and a port.
struct Endpoint {
    std::string address;
    std::uint16_t port = 0;
};

/// "500ms", "2s", "10m" or "10min", "24h"; a whole number and a unit, or "0".
[[nodiscard]] Result<milliseconds> parse_duration(std::string_view text);
/// "512B", "64KiB", "8MiB", "1GiB", "2TiB"; a whole number and a unit.
[[nodiscard]] Result<Bytes> parse_bytes(std::string_view text);

// All of these: Error config_invalid, its context begins with `key`.
[[nodiscard]] Result<milliseconds> duration_field(std::string_view key, std::string_view text,
                                                  Range<milliseconds> allowed);
[[nodiscard]] Result<Bytes> bytes_field(std::string_view key, std::string_view text,
                                        Range<Bytes> allowed);
[[nodiscard]] Result<std::uint64_t> count_field(std::string_view key, std::string_view text,
                                                Range<std::uint64_t> allowed);
/// "true" or "false".
[[nodiscard]] Result<bool> bool_field(std::string_view key, std::string_view text);
/// "127.0.0.1:8710" or "[::1]:8710"; only loopback addresses; port 0 is any free port.
[[nodiscard]] Result<Endpoint> endpoint_field(std::string_view key, std::string_view text);
/// The same of any address: "0.0.0.0:8712", "[::]:8712".
[[nodiscard]] Result<Endpoint> any_endpoint_field(std::string_view key, std::string_view text);
/// A port from 0 to 65535.
[[nodiscard]] Result<std::uint16_t> port_field(std::string_view key, std::string_view text);
/// Permission bits in octal, "0660".
[[nodiscard]] Result<std::uint32_t> mode_field(std::string_view key, std::string_view text);
/// A path without control characters; `absolute` asks for a leading slash.
[[nodiscard]] Result<std::string> path_field(std::string_view key, std::string_view text,
                                             bool absolute);
/// "https://host[:port]" or "http://...": no user, path or query; or "unix:/path" of a socket. A
/// trailing slash is dropped.
[[nodiscard]] Result<std::string> url_field(std::string_view key, std::string_view text);
/// The path of a request: begins with a slash, printable ASCII without spaces, `?` or `#`.
[[nodiscard]] Result<std::string> url_path_field(std::string_view key, std::string_view text);

/// One of the table's names.
template <typename Enum, std::size_t N>
[[nodiscard]] Result<Enum> enum_field(std::string_view key, std::string_view text,
                                      const std::array<EnumName<Enum>, N>& table) {
    if (const auto value = parse_enum(table, text)) return *value;
    std::string known;
    for (const auto& row : table) known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
    return Error{Errc::config_invalid,
                 fmt::format("{}: \"{}\" is not known; allowed: {}", key, text, known)};
}

/// The host of a URL that url_field() took, without port and brackets.
[[nodiscard]] std::string_view url_host(std::string_view url);
/// 127.0.0.0/8, ::1, and the name localhost.
[[nodiscard]] bool is_loopback(std::string_view host);

/// The shortest exact text that parse_duration() reads back: 90s, 2m, 1500ms.
[[nodiscard]] std::string format_duration(milliseconds value);
/// The shortest exact text that parse_bytes() reads back: 512MiB, 1500B.
[[nodiscard]] std::string format_bytes(Bytes value);
/// "127.0.0.1:8710", "[::1]:8710".
[[nodiscard]] std::string format_endpoint(std::string_view address, std::uint16_t port);

/// The candidate that is most like `word` (Levenshtein distance, case ignored), or nullopt when
/// none is near. A candidate whose part after the last dot is the same counts as near.
[[nodiscard]] std::optional<std::string_view> nearest(std::string_view word,
                                                      std::span<const std::string_view> candidates);

}  // namespace opsrelay::config
