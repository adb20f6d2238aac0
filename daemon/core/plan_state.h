// What upstream last said about plan and budget; HTTP replies and metrics show it to clients.
#pragma once

#include <map>
#include <mutex>
#include <string>

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

/// Shared by the forward thread, which sets it, and readers on any thread. Held only for a copy.
class PlanState {
public:
    [[nodiscard]] PlanFields get() const;
    void set(PlanFields fields);

private:
    mutable std::mutex mutex_;
    PlanFields fields_;
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
