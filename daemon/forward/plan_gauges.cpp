#include "forward/plan_gauges.h"

#include <algorithm>

namespace opsrelay::forward {

namespace {

bool same_letters(std::string_view a, std::string_view b) noexcept {
    const auto lower = [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

PlanTier plan_tier(std::string_view text) noexcept {
    for (const auto& row : kPlanTiers) {
        if (same_letters(row.name, text)) return row.value;
    }
    return PlanTier::other;
}

PlanGauges::PlanGauges(observe::Registry& registry, std::string_view lane)
    : paused_(registry.gauge(observe::kPlanPaused, lane)),
      limit_reached_(registry.gauge(observe::kPlanLimitReached, lane)),
      budget_warning_(registry.gauge(observe::kBudgetWarning, lane)),
      budget_exceeded_(registry.gauge(observe::kBudgetExceeded, lane)) {
    for (std::size_t i = 0; i < kPlanTiers.size(); ++i) {
        tiers_[i] = &registry.gauge(observe::kPlanTier, lane, kPlanTiers[i].name);
    }
}

void PlanGauges::show(const PlanFields& fields) noexcept {
    const auto flag = [](observe::Gauge& gauge, bool set) { gauge.set(set ? 1 : 0); };
    for (auto* const tier : tiers_) tier->set(0);
    if (!fields.plan_tier.empty()) tiers_[index_of(plan_tier(fields.plan_tier))]->set(1);
    flag(paused_, fields.telemetry_paused);
    flag(limit_reached_, fields.plan_limit_reached);
    flag(budget_warning_, fields.budget_warning);
    flag(budget_exceeded_, fields.budget_exceeded);
}

}  // namespace opsrelay::forward
