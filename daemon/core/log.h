// Logging: one spdlog logger per stage, a fact plus key=value fields, nothing per event. Payloads
// and credentials never reach this file.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>

#include "core/clock.h"

namespace opsrelay::log {

enum class Format : std::uint8_t { automatic, logfmt, json };
enum class Level : std::uint8_t { debug, info, warn, error };

/// A field of a log line. Durations are written in milliseconds, with the unit in the key.
struct Field {
    std::string_view key;
    std::string value;
    bool is_text = true;  // else a number or a boolean, never quoted

    Field(std::string_view k, std::string_view v) : key(k), value(v) {}
    Field(std::string_view k, const char* v) : key(k), value(v) {}
    Field(std::string_view k, const std::string& v) : key(k), value(v) {}
    Field(std::string_view k, bool v) : key(k), value(v ? "true" : "false"), is_text(false) {}
    Field(std::string_view k, double v);
    template <typename Int>
    requires(std::is_integral_v<Int> && !std::is_same_v<Int, bool>) Field(std::string_view k, Int v)
        : key(k), value(std::to_string(v)), is_text(false) {}
};
using Fields = std::initializer_list<Field>;

/// Sets format and level for the whole process; call once before the threads start. `automatic` is
/// logfmt with a time on a terminal, logfmt with a <N> priority prefix under journald
/// (sd-daemon(3)), else logfmt with a time.
void configure(Format format, Level level);

/// `stage` names the logger: a folder of daemon/, or "relay". Thread-safe.
void write(Level level, std::string_view stage, std::string_view fact, Fields fields = {});
inline void debug(std::string_view stage, std::string_view fact, Fields fields = {}) {
    write(Level::debug, stage, fact, fields);
}
inline void info(std::string_view stage, std::string_view fact, Fields fields = {}) {
    write(Level::info, stage, fact, fields);
}
inline void warn(std::string_view stage, std::string_view fact, Fields fields = {}) {
    write(Level::warn, stage, fact, fields);
}
inline void error(std::string_view stage, std::string_view fact, Fields fields = {}) {
    write(Level::error, stage, fact, fields);
}

/// A cause that does not end is told ever more rarely, down to this.
inline constexpr milliseconds kThrottleMax{15 * 60'000};

/// Lets one line per cause and interval through and reports how many it held back. While a cause
/// goes on, its interval doubles up to kThrottleMax; after an interval without it, it begins anew.
/// Causes are a bounded set (enum names). Thread: one.
class Throttle {
public:
    Throttle(const Clock& clock, milliseconds interval) : clock_(clock), interval_(interval) {}
    /// The number of lines suppressed since the last one let through, or nullopt: do not log now.
    [[nodiscard]] std::optional<std::uint64_t> allow(std::string_view cause);

private:
    struct State {
        TimePoint next{};
        milliseconds interval{0};  // before `next`; 0: there was no line yet
        std::uint64_t suppressed = 0;
    };
    const Clock& clock_;
    milliseconds interval_;
    std::unordered_map<std::string, State> causes_;
};

/// Test seam: receives every line instead of stderr while set. Not thread-safe against configure().
using Sink = void (*)(void* context, Level level, std::string_view line);
void redirect(Sink sink, void* context);

}  // namespace opsrelay::log
