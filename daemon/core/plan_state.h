// What upstream last said about plan and budget; HTTP replies and metrics show it to clients.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "core/clock.h"
#include "core/event.h"

namespace opsrelay {

/// The fields of an upstream reply that describe the workspace, with upstream's meaning.
struct PlanFields {
    std::string plan_tier;  // empty: upstream has not said yet
    bool telemetry_paused = false;
    bool plan_limit_reached = false;
    bool budget_warning = false;
    bool budget_exceeded = false;
    bool operator==(const PlanFields&) const = default;
};

/// Why upstream takes no events from a lane at present, as far as it said so itself.
struct UpstreamRefusal {
    enum class Kind : std::uint8_t {
        none,
        plan_limit,  // 402
        budget,      // 402
        throttled    // 429, until `retry_at`
    };
    Kind kind = Kind::none;
    TimePoint retry_at{};
    bool operator==(const UpstreamRefusal&) const = default;
};

/// A reply to GET /v1/diagnostics/workspace-status that could be read.
struct WorkspaceAnswer {
    std::string body;  // one JSON object, as upstream sent it
    TimePoint read_at{};

    /// A client is told so much later what upstream said; and it is asked no more often.
    static constexpr seconds kFreshFor{60};
    [[nodiscard]] bool fresh(TimePoint now) const noexcept { return now - read_at < kFreshFor; }
};

/// Shared by the forward thread, which sets it, and readers on any thread. Held only for a copy.
class PlanState {
public:
    [[nodiscard]] PlanFields get() const;
    void set(PlanFields fields);

    [[nodiscard]] UpstreamRefusal refusal() const;
    void set_refusal(const UpstreamRefusal& refusal);

    /// The last one; nullopt: there was none yet.
    [[nodiscard]] std::optional<WorkspaceAnswer> workspace() const;
    void set_workspace(WorkspaceAnswer answer);

private:
    mutable std::mutex mutex_;
    PlanFields fields_;
    UpstreamRefusal refusal_;
    std::optional<WorkspaceAnswer> workspace_;
};

/// One for each lane, made when it is asked for and never given back: there are few lanes. Any
/// thread.
class PlanStates {
public:
    [[nodiscard]] PlanState& of(LaneId lane);

private:
    std::mutex mutex_;
    std::map<LaneId, PlanState> states_;
};

}  // namespace opsrelay
