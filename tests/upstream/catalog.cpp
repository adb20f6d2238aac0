#include "upstream/catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

struct KnownPlan {
    std::string_view name;  // in lower case
    std::int64_t limit;
};
constexpr std::array<KnownPlan, 4> kPlans{{
    {"free", 10'000},
    {"starter", 100'000},
    {"pro", 500'000},
    {"team", 2'000'000},
}};

/// The rows of the public catalog that are known, with the names it uses.
constexpr std::array<Price, 8> kPrices{{
    {"openai", "gpt-4o-mini", 150, 600},
    {"openai", "gpt-4-1", 2000, 8000},
    {"openai", "gpt-4o", 2500, 10000},
    {"openai", "gpt-4-1-mini", 400, 1600},
    {"openai", "ada", 400, 400},
    {"openai", "ada-batch", 200, 200},
    {"openai", "babbage", 500, 500},
    {"openai", "babbage-batch", 250, 250},
}};

const Price* find_exact(std::string_view provider, std::string_view model) {
    for (const auto& price : kPrices) {
        if (price.provider == provider && price.model == model) return &price;
    }
    return nullptr;
}

bool all_digits(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// "gpt-4.1-2025-04-14" is "gpt-4-1" in the catalog: dots are dashes, a snapshot's date is gone.
std::string catalog_name(std::string_view model) {
    std::string name = lower(model);
    std::replace(name.begin(), name.end(), '.', '-');
    const std::string_view text = name;
    if (text.size() > 11) {
        const auto date = text.substr(text.size() - 11);  // -YYYY-MM-DD
        if (date[0] == '-' && date[5] == '-' && date[8] == '-' && all_digits(date.substr(1, 4)) &&
            all_digits(date.substr(6, 2)) && all_digits(date.substr(9, 2))) {
            name.resize(name.size() - date.size());
            return name;
        }
    }
    if (text.size() > 9) {
        const auto date = text.substr(text.size() - 9);  // -YYYYMMDD
        if (date[0] == '-' && all_digits(date.substr(1))) name.resize(name.size() - date.size());
    }
    return name;
}

}  // namespace

std::int64_t limit_of_plan(std::string_view name) {
    const auto wanted = lower(name);
    for (const auto& plan : kPlans) {
        if (plan.name == wanted) return plan.limit;
    }
    return 0;
}

std::int64_t limit_of(const Plan& plan) {
    return plan.limit >= 0 ? plan.limit : limit_of_plan(plan.name);
}

const Price* find_price(std::string_view provider, std::string_view model, ModelMatching matching) {
    switch (matching) {
        case ModelMatching::exact: break;
        case ModelMatching::aliases: return find_exact(lower(provider), catalog_name(model));
    }
    return find_exact(provider, model);
}

std::string pricing_models_json() {
    std::string out = R"({"models":[)";
    for (const auto& price : kPrices) {
        if (out.back() != '[') out += ',';
        out += fmt::format(R"({{"provider":"{}","model":"{}","inputUsdPer1M":{},)"
                           R"("outputUsdPer1M":{},"effectiveFrom":"2026-02-06"}})",
                           price.provider, price.model, static_cast<double>(price.input) / 1000,
                           static_cast<double>(price.output) / 1000);
    }
    return out + "]}";
}

}  // namespace opsrelay::upstream
