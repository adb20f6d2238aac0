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

PlanState& PlanStates::of(LaneId lane) {
    const std::lock_guard lock(mutex_);
    return states_[lane];
}

}  // namespace opsrelay
