#include "forward/plan_gauges.h"

#include <doctest/doctest.h>

namespace opsrelay::forward {

TEST_CASE("forward/plan_gauges: a tier by its name in any case, else other") {
    CHECK(plan_tier("free") == PlanTier::free);
    CHECK(plan_tier("Starter") == PlanTier::starter);
    CHECK(plan_tier("ENTERPRISE") == PlanTier::enterprise);
    CHECK(plan_tier("Pro ") == PlanTier::other);
    CHECK(plan_tier("Platinum") == PlanTier::other);
}

TEST_CASE("forward/plan_gauges: shows what upstream said last, and nothing of a lane that ended") {
    observe::Registry registry;
    PlanGauges gauges(registry, "eu");
    const auto tier = [&registry](std::string_view name) {
        return registry.gauge(observe::kPlanTier, "eu", name).value();
    };
    gauges.show({});
    for (const auto& row : kPlanTiers) CHECK(tier(row.name) == 0);  // it has not said yet
    PlanFields fields;
    fields.plan_tier = "Starter";
    fields.telemetry_paused = true;
    fields.budget_exceeded = true;
    gauges.show(fields);
    CHECK(tier("starter") == 1);
    CHECK(registry.gauge(observe::kPlanPaused, "eu").value() == 1);
    CHECK(registry.gauge(observe::kPlanLimitReached, "eu").value() == 0);
    CHECK(registry.gauge(observe::kBudgetWarning, "eu").value() == 0);
    CHECK(registry.gauge(observe::kBudgetExceeded, "eu").value() == 1);
    fields = {};
    fields.plan_tier = "pro";
    fields.plan_limit_reached = true;
    fields.budget_warning = true;
    gauges.show(fields);
    CHECK(tier("starter") == 0);
    CHECK(tier("pro") == 1);
    CHECK(registry.gauge(observe::kPlanPaused, "eu").value() == 0);
    CHECK(registry.gauge(observe::kPlanLimitReached, "eu").value() == 1);
    CHECK(registry.gauge(observe::kBudgetWarning, "eu").value() == 1);
    gauges.clear();
    CHECK(tier("pro") == 0);
    CHECK(registry.gauge(observe::kPlanLimitReached, "eu").value() == 0);
}

}  // namespace opsrelay::forward
