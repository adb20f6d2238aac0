// Every metric the daemon exports, in one table, and the registry that holds their values.
// Stages get references at construction and only count; nothing here decides.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>

#include "observe/llm_usage.h"

namespace opsrelay::observe {

enum class Kind : std::uint8_t {
    counter,
    real_counter,  // exported as a counter; with a fraction, and set like a gauge
    gauge,
    histogram
};
/// As it is exported.
[[nodiscard]] std::string_view type_name(Kind kind) noexcept;

/// A metric family. Its series carry no label, `label`, both labels, or four; values come from
/// enum tables or another bounded set, named in the comment above each.
struct Metric {
    std::string_view name;
    Kind kind;
    std::string_view help;
    std::string_view label;
    std::string_view second_label{};
    std::array<std::string_view, 2> more_labels{};  // of opsrelay_llm_*, which LlmUsage holds
};

// The ledger (observe/ledger.h); set from one snapshot when scraped.
inline constexpr Metric kEventsReceived{"opsrelay_events_received_total", Kind::counter,
                                        "Non-empty lines, array items and single HTTP bodies", ""};
inline constexpr Metric kEventsAccepted{"opsrelay_events_accepted_total", Kind::counter,
                                        "Events made durable", ""};
/// kind: kDuplicateKinds.
inline constexpr Metric kEventsDuplicate{"opsrelay_events_duplicate_total", Kind::counter,
                                         "Repeats of an externalRequestId", "kind"};
/// reason: kRejectReasons.
inline constexpr Metric kEventsRejected{"opsrelay_events_rejected_total", Kind::counter,
                                        "Events that break the contract", "reason"};
/// reason: kShedReasons.
inline constexpr Metric kEventsShed{"opsrelay_events_shed_total", Kind::counter,
                                    "Events refused before acceptance", "reason"};
inline constexpr Metric kEventsPending{"opsrelay_events_pending", Kind::gauge,
                                       "Events in memory that wait for their commit", ""};
inline constexpr Metric kEventsRecovered{"opsrelay_events_recovered_total", Kind::counter,
                                         "Records found in the spool at start", ""};
inline constexpr Metric kEventsReplayed{"opsrelay_events_replayed_total", Kind::counter,
                                        "Dead letters put back into the spool", ""};
inline constexpr Metric kEventsDelivered{"opsrelay_events_delivered_total", Kind::counter,
                                         "Records upstream took", ""};
/// boundary: forward::kBoundaries.
inline constexpr Metric kEventsLate{
    "opsrelay_events_late_total", Kind::counter,
    "Of these, after the UTC day or month in which they were received", "boundary"};
inline constexpr Metric kEventsDead{"opsrelay_events_dead_total", Kind::counter,
                                    "Accepted records upstream refused for good", ""};
/// reason: kDropReasons.
inline constexpr Metric kEventsDropped{"opsrelay_events_dropped_total", Kind::counter,
                                       "Accepted records given up", "reason"};
inline constexpr Metric kLedgerImbalance{
    "opsrelay_ledger_imbalance", Kind::gauge,
    "Events without exactly one outcome; 0 unless there is a bug", ""};
/// kind: parse::kRepairs.
inline constexpr Metric kEventsRepaired{"opsrelay_events_repaired_total", Kind::counter,
                                        "Repairs made to accepted or duplicate events", "kind"};

inline constexpr Metric kSpoolEvents{"opsrelay_spool_events", Kind::gauge,
                                     "Records in the spool, in flight included", ""};
inline constexpr Metric kSpoolBytes{"opsrelay_spool_bytes", Kind::gauge,
                                    "Size of the spool directory", ""};
inline constexpr Metric kSpoolLimitBytes{"opsrelay_spool_limit_bytes", Kind::gauge,
                                         "spool.max_bytes", ""};
inline constexpr Metric kSpoolReserveBytes{"opsrelay_spool_reserve_bytes", Kind::gauge,
                                           "Of it, set aside; 0 when given back to a full volume",
                                           ""};
inline constexpr Metric kSpoolDamaged{
    "opsrelay_spool_damaged", Kind::gauge,
    "Databases moved aside as damaged-<time>: opsrelay spool repair", ""};
inline constexpr Metric kSpoolOldestAge{
    "opsrelay_spool_oldest_age_seconds", Kind::gauge,
    "Age of the oldest record, deferred ones aside; 0 when empty", ""};
/// The three below: dead letters.
inline constexpr Metric kDeadLetters{"opsrelay_dead_letters", Kind::gauge, "Dead letters stored",
                                     ""};
inline constexpr Metric kDeadBytes{"opsrelay_dead_bytes", Kind::gauge,
                                   "Size of the dead letters of accepted records", ""};
inline constexpr Metric kDeadLimitBytes{"opsrelay_dead_limit_bytes", Kind::gauge,
                                        "Size at which lanes park: see spool.dead_max_bytes", ""};
inline constexpr Metric kCommitSeconds{"opsrelay_commit_seconds", Kind::histogram,
                                       "Time of a group commit, sync included", ""};
inline constexpr Metric kCommitEvents{"opsrelay_commit_events", Kind::histogram,
                                      "Events made durable by a group commit", ""};
inline constexpr Metric kDedupeIds{"opsrelay_dedupe_ids", Kind::gauge, "Ids remembered", ""};
inline constexpr Metric kDedupeWindow{"opsrelay_dedupe_window_seconds", Kind::gauge,
                                      "Age of the oldest id remembered", ""};
/// step: spool::kIdSteps.
inline constexpr Metric kDedupeRuns{"opsrelay_dedupe_runs_total", Kind::counter,
                                    "Runs of ids made, merged and forgotten", "step"};
/// result: spool::kIdLookups.
inline constexpr Metric kDedupeLookups{"opsrelay_dedupe_lookups_total", Kind::counter,
                                       "Ids looked up on disk because a filter knows them",
                                       "result"};
inline constexpr Metric kDedupeDamaged{"opsrelay_dedupe_damaged_total", Kind::counter,
                                       "Pages of ids that could not be read", ""};

/// lane: names of configured lanes, at most 16. code: HTTP status, or a kTransports name.
inline constexpr Metric kUpstreamRequests{"opsrelay_upstream_requests_total", Kind::counter,
                                          "Requests sent upstream by result", "lane", "code"};
/// lane: as above.
inline constexpr Metric kUpstreamSeconds{"opsrelay_upstream_request_seconds", Kind::histogram,
                                         "Time of an upstream request", "lane"};
/// lane: as above. reason: forward::kVerdicts.
inline constexpr Metric kUpstreamRetries{"opsrelay_upstream_retries_total", Kind::counter,
                                         "Records to be sent again, by cause", "lane", "reason"};
/// lane: as above. state: forward::kLaneStates; 1 for the current one.
inline constexpr Metric kLaneState{"opsrelay_lane_state", Kind::gauge,
                                   "1 for the state the lane is in", "lane", "state"};
/// lane: as above.
inline constexpr Metric kLaneRetryAt{"opsrelay_lane_retry_at_seconds", Kind::gauge,
                                     "Unix time of the lane's next attempt; 0 when not waiting",
                                     "lane"};

/// lane: as above.
inline constexpr Metric kLaneConcurrency{"opsrelay_lane_concurrency", Kind::gauge,
                                         "Requests the lane may have in flight now; at most "
                                         "upstream.connections times upstream.pipeline",
                                         "lane"};
/// lane: as above.
inline constexpr Metric kPipelineDepth{
    "opsrelay_upstream_pipeline_depth", Kind::gauge,
    "Requests that a connection carries at a time; below upstream.pipeline: it broke of late",
    "lane"};

/// lane: names of the spool's lanes, configured or not; at most 16.
inline constexpr Metric kLaneSpooled{"opsrelay_lane_spooled_events", Kind::gauge,
                                     "Records of the lane in the spool, in flight included",
                                     "lane"};
inline constexpr Metric kLaneDeferred{
    "opsrelay_lane_deferred_events", Kind::gauge,
    "Of these, events that upstream fails on again and again while it takes others", "lane"};
inline constexpr Metric kLaneDeferredDue{"opsrelay_lane_deferred_due_seconds", Kind::gauge,
                                         "Unix time when the next of them is tried; 0: none",
                                         "lane"};

/// listener: "<kind>:<address>".
inline constexpr Metric kKernelDrops{"opsrelay_kernel_drops_total", Kind::counter,
                                     "Datagrams the kernel dropped (SO_RXQ_OVFL)", "listener"};
inline constexpr Metric kListenerReceived{"opsrelay_listener_received_total", Kind::counter,
                                          "Messages received by listener", "listener"};
/// listener: "<kind>:<address>".
inline constexpr Metric kConnectionsRefused{"opsrelay_connections_refused_total", Kind::counter,
                                            "Connections over the limit", "listener"};
/// listener: "<kind>:<address>".
inline constexpr Metric kPeersRefused{"opsrelay_peers_refused_total", Kind::counter,
                                      "Connections and datagrams of peers that are not allowed",
                                      "listener"};
inline constexpr Metric kClientDropped{"opsrelay_client_dropped_total", Kind::counter,
                                       "Events that clients report to have dropped", ""};

inline constexpr Metric kOutageLeft{
    "opsrelay_outage_seconds_left", Kind::gauge,
    "Time until intake closes if upstream took nothing, at the rate of the last 5 minutes; "
    "+Inf while nothing comes in",
    ""};
/// lane: as for kLaneState. tier: forward::kPlanTiers; 1 for the one upstream named last.
inline constexpr Metric kPlanTier{"opsrelay_plan_tier", Kind::gauge,
                                  "1 for the plan that upstream named last", "lane", "tier"};
/// lane: as above; so in the three below.
inline constexpr Metric kPlanPaused{"opsrelay_plan_telemetry_paused", Kind::gauge,
                                    "1 while upstream says that the plan pauses telemetry", "lane"};
inline constexpr Metric kPlanLimitReached{
    "opsrelay_plan_limit_reached", Kind::gauge,
    "1 while upstream says that the plan's requests are used up", "lane"};
inline constexpr Metric kBudgetWarning{"opsrelay_budget_warning", Kind::gauge,
                                       "1 while upstream says that a budget is nearly spent",
                                       "lane"};
inline constexpr Metric kBudgetExceeded{"opsrelay_budget_exceeded", Kind::gauge,
                                        "1 while upstream says that a budget is exceeded", "lane"};

/// provider, model, endpoint_tag: as in the events, LlmUsage::kSeriesMax sets of labels and then
/// `other`. status: parse::kStatusNames. So in the two below.
inline constexpr Metric kLlmRequests{"opsrelay_llm_requests_total",
                                     Kind::counter,
                                     "Calls of language models in accepted events",
                                     "provider",
                                     "model",
                                     {"endpoint_tag", "status"}};
inline constexpr Metric kLlmInputTokens{
    "opsrelay_llm_input_tokens_total", Kind::counter, "Their input tokens", "provider", "model",
    {"endpoint_tag", "status"}};
inline constexpr Metric kLlmOutputTokens{
    "opsrelay_llm_output_tokens_total", Kind::counter, "Their output tokens", "provider", "model",
    {"endpoint_tag", "status"}};

inline constexpr Metric kProcessCpu{"process_cpu_seconds_total", Kind::real_counter,
                                    "CPU time of the process, user and system", ""};
inline constexpr Metric kProcessStart{"process_start_time_seconds", Kind::gauge,
                                      "Unix time at which the process began", ""};
inline constexpr Metric kProcessResident{"process_resident_memory_bytes", Kind::gauge,
                                         "Resident memory", ""};
inline constexpr Metric kProcessVirtual{"process_virtual_memory_bytes", Kind::gauge,
                                        "Virtual memory", ""};
inline constexpr Metric kProcessThreads{"process_threads", Kind::gauge, "Threads", ""};
inline constexpr Metric kProcessOpenFds{"process_open_fds", Kind::gauge, "Open file descriptors",
                                        ""};
inline constexpr Metric kProcessMaxFds{"process_max_fds", Kind::gauge,
                                       "How many may be open at once", ""};
/// version: the program's.
inline constexpr Metric kBuildInfo{"opsrelay_build_info", Kind::gauge, "1", "version"};

inline constexpr std::array kMetrics{
    &kEventsReceived,   &kEventsAccepted,    &kEventsDuplicate,    &kEventsRejected,
    &kEventsShed,       &kEventsPending,     &kEventsRecovered,    &kEventsReplayed,
    &kEventsDelivered,  &kEventsLate,        &kEventsDead,         &kEventsDropped,
    &kLedgerImbalance,  &kEventsRepaired,    &kSpoolEvents,        &kSpoolBytes,
    &kSpoolLimitBytes,  &kSpoolReserveBytes, &kSpoolDamaged,       &kSpoolOldestAge,
    &kDeadLetters,      &kDeadBytes,         &kDeadLimitBytes,     &kCommitSeconds,
    &kCommitEvents,     &kDedupeIds,         &kDedupeWindow,       &kDedupeRuns,
    &kDedupeLookups,    &kDedupeDamaged,     &kUpstreamRequests,   &kUpstreamSeconds,
    &kUpstreamRetries,  &kPipelineDepth,     &kLaneState,          &kLaneRetryAt,
    &kLaneConcurrency,  &kLaneSpooled,       &kLaneDeferred,       &kLaneDeferredDue,
    &kKernelDrops,      &kListenerReceived,  &kConnectionsRefused, &kPeersRefused,
    &kClientDropped,    &kOutageLeft,        &kPlanTier,           &kPlanPaused,
    &kPlanLimitReached, &kBudgetWarning,     &kBudgetExceeded,     &kLlmRequests,
    &kLlmInputTokens,   &kLlmOutputTokens,   &kProcessCpu,         &kProcessStart,
    &kProcessResident,  &kProcessVirtual,    &kProcessThreads,     &kProcessOpenFds,
    &kProcessMaxFds,    &kBuildInfo,
};

/// Any thread.
class Counter {
public:
    explicit Counter(const Metric&) noexcept {}
    void add(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
    /// For totals that are kept elsewhere and copied in; never goes down.
    void set_total(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t value() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};

/// Any thread.
class Gauge {
public:
    explicit Gauge(const Metric&) noexcept {}
    void set(double v) noexcept { value_.store(v, std::memory_order_relaxed); }
    [[nodiscard]] double value() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<double> value_{0};
};

/// Values in 13 buckets and one for what is larger: seconds from 0.5 ms to 10 s, or events from 1
/// to 8,192. Any thread.
class Histogram {
public:
    using Bounds = std::array<double, 13>;
    static constexpr Bounds kSeconds{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                     0.1,    0.25,  0.5,    1.0,   2.5,  10.0};
    static constexpr Bounds kEvents{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192};
    /// Which of them: by the unit at the end of the metric's name.
    explicit Histogram(const Metric& metric) noexcept;
    void observe(double value) noexcept;
    [[nodiscard]] const Bounds& bounds() const noexcept { return bounds_; }
    /// Not cumulative; the last one is +Inf.
    [[nodiscard]] std::array<std::uint64_t, std::tuple_size_v<Bounds> + 1> buckets() const noexcept;
    [[nodiscard]] double sum() const noexcept { return sum_.load(std::memory_order_relaxed); }

private:
    const Bounds& bounds_;
    std::array<std::atomic<std::uint64_t>, std::tuple_size_v<Bounds> + 1> buckets_{};
    std::atomic<double> sum_{0};
};

/// The series of this process. References stay valid for the registry's life. Making a series takes
/// a lock (start-up, or a new status code); using one does not.
class Registry {
public:
    Registry() = default;
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;

    /// The metric must be in kMetrics and of that kind (asserted); gauge() also makes real
    /// counters.
    [[nodiscard]] Counter& counter(const Metric& metric, std::string_view label_value = {},
                                   std::string_view second_value = {});
    [[nodiscard]] Gauge& gauge(const Metric& metric, std::string_view label_value = {},
                               std::string_view second_value = {});
    [[nodiscard]] Histogram& histogram(const Metric& metric, std::string_view label_value = {},
                                       std::string_view second_value = {});

    [[nodiscard]] LlmUsage& llm_usage() noexcept { return llm_usage_; }

    /// Prometheus text exposition format 0.0.4.
    [[nodiscard]] std::string exposition() const;

private:
    template <typename Cell>
    struct Series {
        const Metric* metric;
        std::string label_value;
        std::string second_value;
        Cell cell;
        Series(const Metric* m, std::string_view value, std::string_view second)
            : metric(m), label_value(value), second_value(second), cell(*m) {}
    };
    template <typename Cell>
    Cell& find_or_make(std::deque<Series<Cell>>& all, const Metric& metric,
                       std::string_view label_value, std::string_view second_value);

    mutable std::mutex mutex_;
    std::deque<Series<Counter>> counters_;
    std::deque<Series<Gauge>> gauges_;
    std::deque<Series<Histogram>> histograms_;
    LlmUsage llm_usage_;
};

}  // namespace opsrelay::observe
