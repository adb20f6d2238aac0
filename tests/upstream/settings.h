// How the emulator behaves. Settings is read once at start; Behaviour is what POST /control changes
// while it runs. Every behaviour of the real service that is inferred or unknown is a switch here;
// switches.h gives each its key, its values and the evidence for its default.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/enum_table.h"
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

/// How a repeated id is answered.
enum class DuplicateReply : std::uint8_t {
    same,        // as the first time
    flagged,     // 200 with "duplicate":true
    status_409,  // duplicate_request
};
inline constexpr std::array<EnumName<DuplicateReply>, 3> kDuplicateReplies{{
    {DuplicateReply::same, "same"},
    {DuplicateReply::flagged, "flagged"},
    {DuplicateReply::status_409, "status_409"},
}};
static_assert(dense(kDuplicateReplies));

enum class CreatedAt : std::uint8_t {
    ignored,   // a row belongs to the day it arrives
    honoured,  // to the day it names, from 400 days ago to a day ahead
};
inline constexpr std::array<EnumName<CreatedAt>, 2> kCreatedAts{{
    {CreatedAt::ignored, "ignored"},
    {CreatedAt::honoured, "honoured"},
}};
static_assert(dense(kCreatedAts));

/// How the catalog's row of a model is found.
enum class ModelMatching : std::uint8_t {
    exact,
    aliases,  // in any case, dots as dashes, without the date of a snapshot
};
inline constexpr std::array<EnumName<ModelMatching>, 2> kModelMatchings{{
    {ModelMatching::exact, "exact"},
    {ModelMatching::aliases, "aliases"},
}};
static_assert(dense(kModelMatchings));

enum class UnknownFields : std::uint8_t { ignored, rejected };
inline constexpr std::array<EnumName<UnknownFields>, 2> kUnknownFields{{
    {UnknownFields::ignored, "ignored"},
    {UnknownFields::rejected, "rejected"},
}};
static_assert(dense(kUnknownFields));

/// Casing of planTier.
enum class TierCase : std::uint8_t {
    mixed,  // ingest replies as the plan is named, workspace-status in lower case
    named,
    lower,
    upper,
};
inline constexpr std::array<EnumName<TierCase>, 4> kTierCases{{
    {TierCase::mixed, "mixed"},
    {TierCase::named, "named"},
    {TierCase::lower, "lower"},
    {TierCase::upper, "upper"},
}};
static_assert(dense(kTierCases));

enum class Severity : std::uint8_t { normal, warning, critical };
inline constexpr std::array<EnumName<Severity>, 3> kSeverities{{
    {Severity::normal, "normal"},
    {Severity::warning, "warning"},
    {Severity::critical, "critical"},
}};
static_assert(dense(kSeverities));

/// What GET workspace-status answers.
enum class StatusReply : std::uint8_t {
    served,
    missing,  // 404
    broken,   // 500 with an HTML body
};
inline constexpr std::array<EnumName<StatusReply>, 3> kStatusReplies{{
    {StatusReply::served, "served"},
    {StatusReply::missing, "missing"},
    {StatusReply::broken, "broken"},
}};
static_assert(dense(kStatusReplies));

/// Who may call the dashboard's endpoints.
enum class DashboardAuth : std::uint8_t {
    bearer,   // Authorization: Bearer with any token; an API key is answered 401
    api_key,  // an API key will do, too
};
inline constexpr std::array<EnumName<DashboardAuth>, 2> kDashboardAuths{{
    {DashboardAuth::bearer, "bearer"},
    {DashboardAuth::api_key, "api_key"},
}};
static_assert(dense(kDashboardAuths));

/// The caller's role in the workspace: members may delete their own rows only.
enum class Role : std::uint8_t { owner, admin, member };
inline constexpr std::array<EnumName<Role>, 3> kRoles{{
    {Role::owner, "owner"},
    {Role::admin, "admin"},
    {Role::member, "member"},
}};
static_assert(dense(kRoles));

struct Plan {
    std::string name = "Enterprise";  // as in replies
    std::int64_t limit = -1;          // requests a month; 0: none; -1: that of the name
    std::int64_t used = 0;            // this month before the emulator started
    bool count_test_rows = true;      // rows of dataMode test and demo, too
    bool store_blocked = false;       // a row is stored although it is answered 402
    std::string period_start;         // sent verbatim; empty: the current UTC month
    std::string period_end;
};

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

/// Which spend exceeds a limit.
enum class BudgetEdge : std::uint8_t { above, reached };
inline constexpr std::array<EnumName<BudgetEdge>, 2> kBudgetEdges{{
    {BudgetEdge::above, "above"},
    {BudgetEdge::reached, "reached"},
}};
static_assert(dense(kBudgetEdges));

/// How workspace-status shows a window without a limit, and `budget` when no window has one.
enum class NoBudget : std::uint8_t { zeros, null, absent };
inline constexpr std::array<EnumName<NoBudget>, 3> kNoBudgets{{
    {NoBudget::zeros, "zeros"},
    {NoBudget::null, "null"},
    {NoBudget::absent, "absent"},
}};
static_assert(dense(kNoBudgets));

struct BudgetWindow {
    double limit_usd = 0;      // 0: none
    double spend_usd = 0;      // in this period before the emulator started
    std::string period_start;  // sent verbatim; empty: the current UTC day or month
    std::string period_end;
};

struct Budget {
    BudgetStop stop = BudgetStop::off;
    std::string reason = "budget_exceeded";  // of the 402
    double warning_ratio = 0.8;              // of the limit, reached: warning
    BudgetEdge edge = BudgetEdge::above;
    bool count_test_rows = true;
    bool store_blocked = false;
    NoBudget without_limit = NoBudget::zeros;
    BudgetWindow daily;
    BudgetWindow monthly;
};

/// Retry-After of the emulator's own 429.
enum class ThrottleHint : std::uint8_t { seconds, imf_fixdate, rfc850, asctime, absent };
inline constexpr std::array<EnumName<ThrottleHint>, 5> kThrottleHints{{
    {ThrottleHint::seconds, "seconds"},
    {ThrottleHint::imf_fixdate, "imf_fixdate"},
    {ThrottleHint::rfc850, "rfc850"},
    {ThrottleHint::asctime, "asctime"},
    {ThrottleHint::absent, "absent"},
}};
static_assert(dense(kThrottleHints));

struct RateLimit {
    double per_second = 0;  // HTTP requests to ingest, of all keys together; 0: none
    std::int64_t burst = 10;
    ThrottleHint retry_after = ThrottleHint::seconds;
};

/// Content codings that batch requests may have.
enum class BatchCodings : std::uint8_t { identity, gzip, gzip_zstd };
inline constexpr std::array<EnumName<BatchCodings>, 3> kBatchCodings{{
    {BatchCodings::identity, "identity"},
    {BatchCodings::gzip, "gzip"},
    {BatchCodings::gzip_zstd, "gzip_zstd"},
}};
static_assert(dense(kBatchCodings));

struct BatchLimits {
    std::int64_t items_max = 10'000;
    std::int64_t bytes_max = 1 << 20;  // after decompression
    BatchCodings codings = BatchCodings::gzip;
};

/// An event that upstream alone cannot take, while it takes others: a single request whose body
/// contains the text. Nothing of it is stored.
struct Poison {
    std::string text;  // empty: there is none
    std::int64_t status = 500;
    bool page = false;         // with an HTML body
    double retry_after_s = 0;  // 0: no Retry-After
};

struct Behaviour {
    bool down = false;                 // the ingest port is closed, its connections are cut
    std::int64_t clock_offset_ms = 0;  // the server's clock against ours
    std::int64_t latency_ms = 0;       // before every ingest reply
    std::int64_t stall_ms = 60'000;    // how long stall faults last
    std::int64_t idle_ms = 300'000;    // keep-alive connections without a request are closed
    StatusReply workspace_status = StatusReply::served;

    std::vector<std::string> api_keys;  // empty: any non-empty key
    DashboardAuth dashboard_auth = DashboardAuth::bearer;
    Role role = Role::owner;
    std::int64_t body_bytes_max = 1 << 20;  // of a single request; more is 413
    std::int64_t demo_rows = 25;            // made by POST demo

    std::int64_t validation_status = 400;
    bool lenient = false;  // only status is required (and types still hold)
    UnknownFields unknown_fields = UnknownFields::ignored;
    std::int64_t id_bytes_max = 0;  // of externalRequestId; 0: none

    Conflict conflict = Conflict::first_wins;
    DuplicateReply duplicate_reply = DuplicateReply::same;
    bool count_duplicates = false;  // a repeat uses up the plan
    bool count_blocked = false;     // so does a request that plan or budget blocked
    CreatedAt created_at = CreatedAt::ignored;
    ModelMatching model_matching = ModelMatching::exact;
    TierCase plan_tier_case = TierCase::mixed;
    Severity plan_limit_severity = Severity::critical;

    Plan plan;
    Budget budget;
    RateLimit rate_limit;
    BatchLimits batch;
    Poison poison;
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

/// What POST /control sets at once.
struct FaultChoice {
    std::vector<Fault> script;
    std::vector<Rate> rates;
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
    FaultChoice faults;       // of ingest requests
    FaultChoice item_faults;  // of the items of batch requests
    std::uint64_t seed = 1;
};

inline constexpr Bytes kControlBytesMax{8U << 20U};  // one control request

}  // namespace opsrelay::upstream
