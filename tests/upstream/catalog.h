// What the documentation says in numbers: plans with their limits, models with their prices.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "upstream/settings.h"

namespace opsrelay::upstream {

/// Requests a month of a documented plan, its name compared without case; 0: none, or not a
/// documented plan.
[[nodiscard]] std::int64_t limit_of_plan(std::string_view name);
/// The limit in force: `limit`, or that of the plan's name when it is negative.
[[nodiscard]] std::int64_t limit_of(const Plan& plan);

/// Billionths of a dollar per token, that is USD per million tokens times 1000.
struct Price {
    std::string_view provider;
    std::string_view model;
    std::uint64_t input;
    std::uint64_t output;
};
/// The catalog's row; nullptr: an unknown model, which costs nothing.
[[nodiscard]] const Price* find_price(std::string_view provider, std::string_view model,
                                      ModelMatching matching);

/// GET /v1/public/pricing-models; the shape is ours.
[[nodiscard]] std::string pricing_models_json();

}  // namespace opsrelay::upstream
