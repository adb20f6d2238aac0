// What can go wrong with one ingest request, and when: a script consumed one entry per request,
// else one draw per request against rates. Pure; the service and the server carry faults out.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/enum_table.h"
#include "core/error.h"
#include "core/random.h"

namespace opsrelay::upstream {

/// "Stores" means that the request is processed first, as without a fault. README.md has the table.
enum class FaultKind : std::uint8_t {
    ok,                  // no fault; in a script also: no rate is drawn
    status,              // any code 300..599 with a JSON body; 409 stores, nothing else does
    plan_402,            // plan limit, whatever the plan says
    budget_402,          // budget stop
    html_500,            // 500 with an HTML body
    empty_503,           // 503 without a body
    html_200,            // 200 that is not the API's
    text_200,            // 200 that is not JSON
    ok_false_200,        // 200 with ok:false and `reason`
    empty_200,           // stores, 200 without a body
    empty_204,           // stores, 204
    found_302,           // redirect
    reset_before,        // connection reset, nothing stored
    reset_after_commit,  // stores, connection reset
    stall,               // no answer until the client goes or `ms` passed
    stall_after_commit,  // stores, no answer
    slow_body,           // stores, reply in pieces, `ms` between them
    truncated_body,      // stores, reply cut off in the middle of its body
    close_after,         // stores, reply with Connection: close
    latency,             // stores, reply after `ms`
    results_reversed,    // batch: stores, the results come last item first
    results_missing,     // batch: stores, the results of the second half are not there
};
inline constexpr std::array<EnumName<FaultKind>, 22> kFaultKinds{{
    {FaultKind::ok, "ok"},
    {FaultKind::status, "status"},
    {FaultKind::plan_402, "402_plan"},
    {FaultKind::budget_402, "402_budget"},
    {FaultKind::html_500, "500_html"},
    {FaultKind::empty_503, "503_empty"},
    {FaultKind::html_200, "200_html"},
    {FaultKind::text_200, "200_text"},
    {FaultKind::ok_false_200, "200_ok_false"},
    {FaultKind::empty_200, "200_empty"},
    {FaultKind::empty_204, "204"},
    {FaultKind::found_302, "302"},
    {FaultKind::reset_before, "reset_before"},
    {FaultKind::reset_after_commit, "reset_after_commit"},
    {FaultKind::stall, "stall"},
    {FaultKind::stall_after_commit, "stall_after_commit"},
    {FaultKind::slow_body, "slow_body"},
    {FaultKind::truncated_body, "truncated_body"},
    {FaultKind::close_after, "close_after"},
    {FaultKind::latency, "latency"},
    {FaultKind::results_reversed, "results_reversed"},
    {FaultKind::results_missing, "results_missing"},
}};
static_assert(dense(kFaultKinds));
constexpr std::string_view to_string(FaultKind kind) { return kFaultKinds.at(index_of(kind)).name; }

/// How a Retry-After header is written (RFC 9110, 10.2.3 and 5.6.7).
enum class RetryForm : std::uint8_t { verbatim, seconds, imf_fixdate, rfc850, asctime };
inline constexpr std::array<EnumName<RetryForm>, 5> kRetryForms{{
    {RetryForm::verbatim, "verbatim"},
    {RetryForm::seconds, "seconds"},
    {RetryForm::imf_fixdate, "imf_fixdate"},
    {RetryForm::rfc850, "rfc850"},
    {RetryForm::asctime, "asctime"},
}};
static_assert(dense(kRetryForms));
constexpr std::string_view to_string(RetryForm form) { return kRetryForms.at(index_of(form)).name; }

struct RetryAfter {
    RetryForm form = RetryForm::verbatim;
    std::string text;          // verbatim: sent as it is, also when it is nonsense
    std::int64_t seconds = 0;  // the other forms: from now
};
/// The header's value. `now` is the server's idea of the time, the one in its Date header.
[[nodiscard]] std::string header_value(const RetryAfter& retry, WallTime now);
/// `form` is imf_fixdate, rfc850 or asctime.
[[nodiscard]] std::string http_date(RetryForm form, WallTime time);

struct Fault {
    FaultKind kind = FaultKind::ok;
    int status = 0;           // FaultKind::status only
    std::uint32_t times = 1;  // script only: requests this entry answers
    milliseconds ms{0};       // latency, stall, slow_body; 0: the default of the settings
    std::string reason;       // replaces the reply's reason; empty: the usual one
    std::optional<RetryAfter> retry_after;  // any reply that is sent

    /// The name it is configured and counted by: "429", "reset_before".
    [[nodiscard]] std::string name() const;
};

/// What a fault happens to: an ingest request, or one item of a batch request. An item has a status
/// and a reason, but no connection to lose.
enum class Scope : std::uint8_t { request, item };

/// "429", "500_html", …; errors name what is allowed.
[[nodiscard]] Result<Fault> parse_fault_name(std::string_view name, Scope scope);
/// A JSON array of names, or of objects with "fault", "times", "ms", "reason", "retry_after".
[[nodiscard]] Result<std::vector<Fault>> parse_script(std::string_view json, Scope scope);

struct Rate {
    Fault fault;
    std::uint32_t per_mille = 0;
};
/// "500_html=20". Errors name the text.
[[nodiscard]] Result<Rate> parse_rate(std::string_view text, Scope scope);
/// At most 1000 together.
[[nodiscard]] Result<void> check_rates(const std::vector<Rate>& rates);

inline constexpr std::size_t kScriptEntriesMax = 100'000;
inline constexpr std::size_t kRatesMax = 64;

/// Chooses the fault of each request. The same seed, rates and number of requests give the same
/// faults. Thread: one.
class FaultPlan {
public:
    void set_script(std::vector<Fault> script) { script_.assign(script.begin(), script.end()); }
    void set_rates(std::vector<Rate> rates) { rates_ = std::move(rates); }
    void set_seed(std::uint64_t seed) {
        seed_ = seed;
        rng_ = Xoshiro{seed};
    }
    [[nodiscard]] Fault next();

    [[nodiscard]] const std::deque<Fault>& script() const noexcept { return script_; }
    [[nodiscard]] const std::vector<Rate>& rates() const noexcept { return rates_; }
    [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

private:
    std::deque<Fault> script_;
    std::vector<Rate> rates_;
    std::uint64_t seed_ = 1;
    Xoshiro rng_{1};
};

}  // namespace opsrelay::upstream
