// Times as peers write them: HTTP-date in its three forms, Retry-After, and ISO 8601 in JSON
// bodies. Pure functions; text that is not a time is nullopt, never a guess.
#pragma once

#include <optional>
#include <string_view>

#include "core/clock.h"

namespace opsrelay::forward {

/// Longer waits are cut to this: a lane that sleeps for a month because of one typo in a proxy's
/// configuration is stuck, not polite.
inline constexpr milliseconds kRetryAfterMax = std::chrono::days{7};

/// RFC 9110 5.6.7: IMF-fixdate, RFC 850 and asctime. `now` decides the century of RFC 850's
/// two-digit year: more than 50 years ahead means the past.
[[nodiscard]] std::optional<WallTime> parse_http_date(std::string_view text, WallTime now);

/// RFC 9110 10.2.3: delta-seconds or an HTTP-date; also seconds with a fraction, which the RFC does
/// not have but servers send ("2.0"), rounded up to milliseconds. A date is measured against the
/// reply's own Date header when that can be read, so that a wrong clock on either side does not
/// matter, else against `now`. In [0, kRetryAfterMax]; nullopt: not a Retry-After.
[[nodiscard]] std::optional<milliseconds> parse_retry_after(std::string_view value,
                                                            std::optional<std::string_view> date,
                                                            WallTime now);

/// ISO 8601 date and time with a zone, "2026-04-30T23:59:59Z"; fractions are cut to milliseconds.
[[nodiscard]] std::optional<WallTime> parse_iso8601(std::string_view text);

}  // namespace opsrelay::forward
