// What /status and `opsrelay status` show.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "observe/ledger.h"

namespace opsrelay::control {

struct LaneView {
    std::string name;
    std::string state;
    std::int64_t since_unix_ms = 0;                // 0: not known
    std::optional<std::int64_t> retry_at_unix_ms;  // when the lane waits
    std::uint64_t spooled = 0;
    std::uint64_t deferred = 0;  // of them: upstream fails on these and takes others...
    std::optional<std::int64_t> deferred_due_unix_ms;  // ...and when the next one is tried
    std::uint64_t concurrency = 0;                     // requests it may have in flight now
    double oldest_age_s = 0;                           // of its oldest record; 0 when empty
    std::uint64_t late_day = 0;    // delivered after the UTC day in which they were received...
    std::uint64_t late_month = 0;  // ...and, of these, after its month
    std::string last_error;        // empty: none since the last success
    std::string next;              // what happens next and what to do; empty while it is active
};

struct ListenerView {
    std::string type;
    std::string address;
    std::uint64_t received = 0;
    std::uint64_t kernel_drops = 0;
    bool inherited = false;
};

struct StatusView {
    std::string version;
    bool ready = false;
    std::vector<std::string> reasons;  // why not ready
    observe::Ledger ledger;
    std::vector<LaneView> lanes;
    std::uint64_t spool_bytes = 0;
    std::uint64_t spool_limit = 0;
    std::vector<std::string> damaged;   // databases that were moved aside
    std::vector<std::string> repaired;  // of which a repair left something; they may be deleted
    std::uint64_t spool_reserve = 0;    // of spool_bytes, set aside
    double spool_oldest_age_s = 0;
    std::uint64_t dead_letters = 0;      // stored now
    std::uint64_t dead_bytes = 0;        // of those of accepted records...
    std::uint64_t dead_bytes_limit = 0;  // ...and where lanes park
    std::uint64_t dedupe_ids = 0;
    std::uint64_t dedupe_ids_max = 0;
    double dedupe_window_s = 0;  // age of the oldest id remembered
    std::vector<ListenerView> listeners;
};

/// One JSON object; times are ISO 8601 UTC with milliseconds, absent ones null.
[[nodiscard]] std::string to_json(const StatusView& status);

/// The body of /readyz: `{"ready":true,"reasons":[]}`.
[[nodiscard]] std::string readiness_json(const StatusView& status);

}  // namespace opsrelay::control
