#include "core/plan_state.h"

#include <utility>

namespace opsrelay {

PlanFields PlanState::get() const {
    const std::lock_guard lock(mutex_);
    return fields_;
}

void PlanState::set(PlanFields fields) {
    const std::lock_guard lock(mutex_);
    fields_ = std::move(fields);
}

UpstreamRefusal PlanState::refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
}

void PlanState::set_refusal(const UpstreamRefusal& refusal) {
    const std::lock_guard lock(mutex_);
    refusal_ = refusal;
}

std::optional<WorkspaceAnswer> PlanState::workspace() const {
    const std::lock_guard lock(mutex_);
    return workspace_;
}

void PlanState::set_workspace(WorkspaceAnswer answer) {
    const std::lock_guard lock(mutex_);
    workspace_ = std::move(answer);
}

PlanState& PlanStates::of(LaneId lane) {
    const std::lock_guard lock(mutex_);
    return states_[lane];
}

}  // namespace opsrelay
