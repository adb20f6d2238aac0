#include "forward/plan_memo.h"

#include <array>

namespace opsrelay::forward {

namespace {

constexpr char kVersion = 1;
constexpr std::size_t kHeaderBytes = 2;
constexpr std::array kFlags{&PlanFields::telemetry_paused, &PlanFields::plan_limit_reached,
                            &PlanFields::budget_warning, &PlanFields::budget_exceeded};

}  // namespace

std::string encode_plan(const PlanFields& fields) {
    unsigned flags = 0;
    for (std::size_t i = 0; i < kFlags.size(); ++i) flags |= (fields.*kFlags[i] ? 1U : 0U) << i;
    return std::string{kVersion, static_cast<char>(flags)} + fields.plan_tier;
}

std::optional<PlanFields> decode_plan(std::string_view memo) {
    if (memo.size() < kHeaderBytes || memo[0] != kVersion) return std::nullopt;
    const auto flags = static_cast<unsigned char>(memo[1]);
    PlanFields fields;
    for (std::size_t i = 0; i < kFlags.size(); ++i) fields.*kFlags[i] = (flags >> i & 1U) != 0;
    fields.plan_tier = memo.substr(kHeaderBytes);
    return fields;
}

}  // namespace opsrelay::forward
