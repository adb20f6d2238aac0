// Lines that speak to opsrelay itself instead of carrying an event: {"opsrelay":{...}}.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace opsrelay::listen {

/// What a control line says.
struct ControlLine {
    enum class Kind : std::uint8_t {
        acks_on,   // {"opsrelay":{"acks":true}}: first line of a stream
        acks_off,  // {"opsrelay":{"acks":false}}: the same, without effect
        dropped    // {"opsrelay":{"dropped":N}}: a client lost N events on its side; any line
    };
    Kind kind;
    std::uint64_t dropped = 0;
};

/// The control line that `line` is, or nullopt: an event, or something that is judged as one. White
/// space between tokens is allowed; any other member makes it an event. Pure.
[[nodiscard]] std::optional<ControlLine> parse_control_line(std::string_view line) noexcept;

}  // namespace opsrelay::listen
