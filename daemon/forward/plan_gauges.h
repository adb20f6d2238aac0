// What upstream last said about a lane's plan and budget, as metrics.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/enum_table.h"
#include "core/plan_state.h"
#include "observe/metrics.h"

namespace opsrelay::forward {

/// The tiers that the service sells; label values of `tier`. Upstream's spelling varies in case.
enum class PlanTier : std::uint8_t { free, starter, pro, team, enterprise, other };
inline constexpr std::array<EnumName<PlanTier>, 6> kPlanTiers{{
    {PlanTier::free, "free"},
    {PlanTier::starter, "starter"},
    {PlanTier::pro, "pro"},
    {PlanTier::team, "team"},
    {PlanTier::enterprise, "enterprise"},
    {PlanTier::other, "other"},
}};
static_assert(dense(kPlanTiers));

/// Any text but an empty one, which is no tier: upstream has not said yet.
[[nodiscard]] PlanTier plan_tier(std::string_view text) noexcept;

/// The gauges of one lane. Thread: one.
class PlanGauges {
public:
    PlanGauges(observe::Registry& registry, std::string_view lane);
    void show(const PlanFields& fields) noexcept;
    /// The lane is not sent from any more.
    void clear() noexcept { show({}); }

private:
    std::array<observe::Gauge*, kPlanTiers.size()> tiers_{};
    observe::Gauge& paused_;
    observe::Gauge& limit_reached_;
    observe::Gauge& budget_warning_;
    observe::Gauge& budget_exceeded_;
};

}  // namespace opsrelay::forward
