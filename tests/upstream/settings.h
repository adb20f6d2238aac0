// How the emulator behaves. Settings is read once at start; Behaviour is what POST /control changes
// while it runs. Every behaviour of the real service that is inferred or unknown is a switch here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enum_table.h"
#include "core/error.h"
#include "core/units.h"
#include "upstream/faults.h"

namespace opsrelay::upstream {

/// Which content a row keeps when its id comes again with another one.
enum class Conflict : std::uint8_t { first_wins, last_wins };
inline constexpr std::array<EnumName<Conflict>, 2> kConflicts{{
    {Conflict::first_wins, "first_wins"},
    {Conflict::last_wins, "last_wins"},
}};
static_assert(dense(kConflicts));
constexpr std::string_view to_string(Conflict c) { return kConflicts.at(index_of(c)).name; }

/// When a budget answers 402.
enum class BudgetStop : std::uint8_t {
    off,       // never: an exceeded budget is only reported
    exceeded,  // while the spend of a window is above its limit
    always,    // whatever was spent
};
inline constexpr std::array<EnumName<BudgetStop>, 3> kBudgetStops{{
    {BudgetStop::off, "off"},
    {BudgetStop::exceeded, "exceeded"},
    {BudgetStop::always, "always"},
}};
static_assert(dense(kBudgetStops));
constexpr std::string_view to_string(BudgetStop s) { return kBudgetStops.at(index_of(s)).name; }

struct Plan {
    std::string name = "Enterprise";  // as in replies; workspace-status has it in lower case too
    std::int64_t limit = 0;           // requests per period; 0: unlimited
    std::int64_t used = 0;            // counted before the emulator started
    std::string period_start;         // sent verbatim; empty: the current UTC month
    std::string period_end;
};

struct BudgetWindow {
    double limit_usd = 0;      // 0: none
    double spend_usd = 0;      // spent before the emulator started
    std::string period_start;  // sent verbatim; empty: the current UTC day or month
    std::string period_end;
};

struct Budget {
    BudgetStop stop = BudgetStop::off;
    std::string reason = "budget_exceeded";  // of the 402; the real string is unknown
    double warning_ratio = 0.8;
    BudgetWindow daily;
    BudgetWindow monthly;
};

struct Behaviour {
    bool down = false;                     // the ingest port is closed, its connections are cut
    std::vector<std::string> api_keys;     // empty: any non-empty key
    std::int64_t validation_status = 400;  // or 422
    bool lenient = false;                  // only status is required (and types still hold)
    Conflict conflict = Conflict::first_wins;
    bool count_duplicates = false;  // a repeat uses up the plan too
    milliseconds latency{0};        // before every ingest reply
    milliseconds stall{60'000};     // how long stall faults last
    milliseconds idle{300'000};     // keep-alive connections without a request are closed
    seconds date_skew{0};           // the server's clock against ours
    Plan plan;
    Budget budget;
};

struct TlsSettings {
    std::string cert_file;  // PEM chain; with key_file
    std::string key_file;
    bool self_signed = false;        // generate both
    std::string host = "localhost";  // subject and subjectAltName of the generated certificate
    bool expired = false;
    std::string cert_out;  // where the generated certificate is written (PEM)
    [[nodiscard]] bool on() const noexcept { return self_signed || !cert_file.empty(); }
};

struct Settings {
    std::string address = "127.0.0.1";  // loopback only
    std::uint16_t port = 0;             // 0: any
    std::uint16_t control_port = 0;
    TlsSettings tls;                     // of the ingest port; control is always plain HTTP
    std::size_t connections_max = 4096;  // per port; more are closed at once
    std::size_t rows_max = 20'000'000;
    Bytes row_bytes_max{2ULL << 30U};  // ids and bodies together
    bool ids_only = false;             // forget bodies
    Behaviour behaviour;
    std::vector<Fault> script;
    std::vector<Rate> rates;
    std::uint64_t seed = 1;
};

inline constexpr Bytes kBodyBytesMax{1U << 20U};     // one ingest request; more is 413
inline constexpr Bytes kControlBytesMax{8U << 20U};  // one control request

/// Name and monthly requests of a documented plan; names are compared without case.
struct KnownPlan {
    std::string_view name;
    std::int64_t limit;
};
[[nodiscard]] Result<KnownPlan> find_plan(std::string_view name);

/// What one POST /control asks for.
struct ControlChange {
    Behaviour behaviour;  // the whole new one
    std::optional<std::vector<Fault>> script;
    std::optional<std::vector<Rate>> rates;
    std::optional<std::uint64_t> seed;
};
/// All or nothing: unknown keys and bad values are errors that name the key.
[[nodiscard]] Result<ControlChange> parse_control(std::string_view json, const Behaviour& current);
/// The answer of /control: every key that parse_control understands.
[[nodiscard]] std::string control_json(const Behaviour& behaviour, const FaultPlan& faults);

}  // namespace opsrelay::upstream
