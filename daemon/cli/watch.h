// `status --watch`: what changes between two looks at the daemon.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace opsrelay::cli {

/// Events a second.
struct Rates {
    double received = 0;
    double delivered = 0;
};

/// Thread: one.
class RateMeter {
public:
    /// The rates since the last look, from the JSON of /status; nullopt: this is the first look, or
    /// the daemon was started in between, or that is no status.
    [[nodiscard]] std::optional<Rates> look(std::string_view status_json, TimePoint at);
    /// The daemon did not answer.
    void forget() noexcept { last_.reset(); }

private:
    struct Look {
        std::uint64_t received = 0;
        std::uint64_t delivered = 0;
        TimePoint at;
    };
    std::optional<Look> last_;
};

/// "received 12.0/s, delivered 11.5/s"; "-" for rates that are not known.
[[nodiscard]] std::string rates_text(const std::optional<Rates>& rates);
/// `{"received_per_s":12.0,"delivered_per_s":11.5}` or null.
[[nodiscard]] std::string rates_json(const std::optional<Rates>& rates);

}  // namespace opsrelay::cli
