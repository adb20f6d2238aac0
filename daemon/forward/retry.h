// What a reply means: the reply table as a pure function, and how long to wait after a failure.
// Used by the lane (what the lane does next) and the pump (what becomes of the record).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/enum_table.h"
#include "core/plan_state.h"
#include "core/random.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// The meaning of one reply to one event. Label values of `reason` in
/// opsrelay_upstream_retries_total (all but `delivered`).
enum class Verdict : std::uint8_t {
    delivered,       // 2xx with an empty body or a JSON object without ok:false; 409
    not_the_api,     // 2xx with anything else, 4xx with a page: some other server answered
    rejected,        // 400, 422, and 413 for a single event: upstream will never take this one
    unauthorized,    // 401, 403
    plan_limited,    // 402 with reason plan_limit_reached, telemetryPaused or isPlanLimitReached
    budget_stopped,  // any other 402
    misconfigured,   // 3xx, 404, 405 and every 4xx not named here
    throttled,       // 429
    backoff,         // 408, 425, 5xx, and every exchange without a complete reply
};
inline constexpr std::array<EnumName<Verdict>, 9> kVerdicts{{
    {Verdict::delivered, "delivered"},
    {Verdict::not_the_api, "not_the_api"},
    {Verdict::rejected, "rejected"},
    {Verdict::unauthorized, "unauthorized"},
    {Verdict::plan_limited, "plan_limited"},
    {Verdict::budget_stopped, "budget_stopped"},
    {Verdict::misconfigured, "misconfigured"},
    {Verdict::throttled, "throttled"},
    {Verdict::backoff, "backoff"},
}};
static_assert(dense(kVerdicts));
constexpr std::string_view to_string(Verdict v) { return kVerdicts.at(index_of(v)).name; }

/// What one reply says about plan and budget; what it does not mention stays as it was.
struct PlanUpdate {
    std::optional<std::string> plan_tier;  // at most 64 bytes; longer ones are ignored
    std::optional<bool> telemetry_paused;
    std::optional<bool> plan_limit_reached;
    std::optional<bool> budget_warning;
    std::optional<bool> budget_exceeded;

    void apply_to(PlanFields& fields) const;
};

struct Decision {
    Verdict verdict = Verdict::backoff;
    PlanUpdate plan;
    /// Only from a header that could be read; at most kRetryAfterMax.
    std::optional<milliseconds> retry_after;
};

/// The reply table for a single event. 2xx with ok:false counts by its `reason`:
/// plan_limit_reached, invalid_api_key, rate_limited, validation_failed as 402, 401, 429, 400,
/// anything else as 5xx. A 4xx with HTML or XML is not the API's, but 408, 413, 425 and
/// 429 are what they say. `now` stands in for the reply's Date header when that is absent.
[[nodiscard]] Decision classify(const Reply& reply, WallTime now);

/// "503", "timeout": for logs, status and the label `code`. No bytes from the peer.
[[nodiscard]] std::string describe_code(const Reply& reply);

/// What a reply to GET workspace-status says.
struct WorkspaceStatus {
    bool readable = false;  // a 200 with the documented flags; everything below counts only then
    bool paused = false;    // by the plan, not by a budget
    std::optional<WallTime> plan_period_end;
    /// The earliest end of an exceeded budget window; of any window when none says it is exceeded.
    std::optional<WallTime> budget_period_end;
    PlanUpdate plan;
};
[[nodiscard]] WorkspaceStatus read_workspace_status(const Reply& reply);

/// A record that failed this often while the lane was able to send is stuck: the fault is its own.
/// It is deferred; where there is no room for that it is retried where it is, and neither the
/// window nor the breaker waits for it.
inline constexpr unsigned kStuckFailures = 20;

/// How long a deferred record waits that has failed so often: half to all of a minute that doubles
/// with each failure beyond kStuckFailures, up to 6 h.
[[nodiscard]] milliseconds deferral(unsigned failures, Rng& rng);

/// Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): uniform between 1 ms and
/// a ceiling that doubles from `base` to `max`.
class Backoff {
public:
    Backoff(milliseconds base, milliseconds max, Rng& rng) : base_(base), max_(max), rng_(rng) {}
    [[nodiscard]] milliseconds next() { return after(failures_++); }
    /// The wait after `failures` earlier failures, without counting one.
    [[nodiscard]] milliseconds after(unsigned failures);
    void reset() noexcept { failures_ = 0; }
    [[nodiscard]] unsigned failures() const noexcept { return failures_; }

private:
    milliseconds base_;
    milliseconds max_;
    Rng& rng_;
    unsigned failures_ = 0;
};

}  // namespace opsrelay::forward
