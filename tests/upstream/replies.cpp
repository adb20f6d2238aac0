#include "upstream/replies.h"

#include <fmt/format.h>

#include <cmath>

#include "core/json_text.h"
#include "upstream/calendar.h"
#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

enum class Place : std::uint8_t { ingest, status };

std::string tier(const Behaviour& behaviour, Place place) {
    std::string name = behaviour.plan.name;
    switch (behaviour.plan_tier_case) {
        case TierCase::mixed: return place == Place::ingest ? name : lower(name);
        case TierCase::named: return name;
        case TierCase::lower: return lower(name);
        case TierCase::upper: break;
    }
    for (auto& c : name) {
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    }
    return name;
}

std::string accepted_json(const Behaviour& behaviour, const PlanAndBudget& state, bool flagged) {
    return fmt::format(R"({{"ok":true,"planTier":{},"warnings":[],"reason":null,)"
                       R"("telemetryPaused":false,"providerCallsContinue":true,)"
                       R"("isPlanLimitReached":false,"budgetWarning":{},"budgetExceeded":{},)"
                       R"("planLimitRequests":{},"freeLimitRemainingRequests":{}{}}})",
                       json_string(tier(behaviour, Place::ingest)), state.warning, state.exceeded,
                       state.limit, state.left, flagged ? R"(,"duplicate":true)" : "");
}

std::string full_reason() { return "emulator_full: raise --max-rows or use --ids-only"; }

Answer repeated(const Behaviour& behaviour, const PlanAndBudget& after) {
    switch (behaviour.duplicate_reply) {
        case DuplicateReply::same: return {200, accepted_json(behaviour, after, false)};
        case DuplicateReply::flagged: return {200, accepted_json(behaviour, after, true)};
        case DuplicateReply::status_409: break;
    }
    return {409, refusal_json("duplicate_request")};
}

ItemResult repeated_item(DuplicateReply reply) {
    switch (reply) {
        case DuplicateReply::same: return {200, {}};
        case DuplicateReply::flagged: return {200, "duplicate"};
        case DuplicateReply::status_409: break;
    }
    return {409, "duplicate_request"};
}

void append_result(std::string& out, std::size_t index, const ItemResult& result) {
    if (out.back() != '[') out += ',';
    out += fmt::format(R"({{"index":{},"status":{},"reason":{}}})", index, result.status,
                       result.reason.empty() ? "null" : json_string(result.reason));
}

std::string or_default(const std::string& text, std::string fallback) {
    return json_string(text.empty() ? fallback : text);
}

std::string window_json(std::string_view period, const BudgetWindow& window,
                        const WindowState& state, const Period& times) {
    const auto ratio = window.limit_usd > 0
                           ? std::round(state.spend_usd / window.limit_usd * 10'000) / 10'000
                           : 0.0;
    return fmt::format(R"({{"limitUsd":{},"currentSpendUsd":{},"utilizationRatio":{},)"
                       R"("isWarning":{},"isExceeded":{},"period":"{}","periodStart":{},)"
                       R"("periodEnd":{}}})",
                       window.limit_usd, state.spend_usd, ratio, state.warning, state.exceeded,
                       period, or_default(window.period_start, times.start),
                       or_default(window.period_end, times.end));
}

/// `"budget":{…}` with what is known of it; empty when it is left out.
std::string budget_member(const Budget& budget, const PlanAndBudget& state, WallTime now) {
    const auto today = day_of(now);
    const auto daily = window_json("daily", budget.daily, state.daily, period_of(today));
    const auto monthly =
        window_json("monthly", budget.monthly, state.monthly, period_of(month_of(today)));
    const bool has_daily = budget.daily.limit_usd > 0;
    const bool has_monthly = budget.monthly.limit_usd > 0;
    const auto head = fmt::format(R"("budget":{{"warningThresholdRatio":{})", budget.warning_ratio);
    switch (budget.without_limit) {
        case NoBudget::zeros: break;
        case NoBudget::null:
            if (!has_daily && !has_monthly) return R"("budget":null)";
            return fmt::format(R"({},"daily":{},"monthly":{}}})", head, has_daily ? daily : "null",
                               has_monthly ? monthly : "null");
        case NoBudget::absent: {
            if (!has_daily && !has_monthly) return {};
            auto out = head;
            if (has_daily) out += R"(,"daily":)" + daily;
            if (has_monthly) out += R"(,"monthly":)" + monthly;
            return out + '}';
        }
    }
    return fmt::format(R"({},"daily":{},"monthly":{}}})", head, daily, monthly);
}

std::string_view severity(const Behaviour& behaviour, const PlanAndBudget& state) {
    auto worst = state.exceeded  ? Severity::critical
                 : state.warning ? Severity::warning
                                 : Severity::normal;
    if (state.plan_reached) worst = std::max(worst, behaviour.plan_limit_severity);
    return kSeverities.at(index_of(worst)).name;
}

}  // namespace

Answer answer_of(const Outcome& outcome, const Behaviour& behaviour, const PlanAndBudget& after) {
    switch (outcome.verdict) {
        case Verdict::stored: return {200, accepted_json(behaviour, after, false)};
        case Verdict::repeated: return repeated(behaviour, after);
        case Verdict::invalid: break;
        case Verdict::plan_limit: return {402, plan_limit_json(behaviour, after)};
        case Verdict::budget_stop: return {402, budget_stop_json(behaviour, {})};
        case Verdict::full: return {503, refusal_json(full_reason())};
    }
    return {static_cast<int>(behaviour.validation_status),
            invalid_json("validation_failed", outcome.errors)};
}

ItemResult result_of(const Outcome& outcome, const Behaviour& behaviour) {
    switch (outcome.verdict) {
        case Verdict::stored: return {200, {}};
        case Verdict::repeated: return repeated_item(behaviour.duplicate_reply);
        case Verdict::invalid: break;
        case Verdict::plan_limit: return {402, "plan_limit_reached"};
        case Verdict::budget_stop: return {402, behaviour.budget.reason};
        case Verdict::full: return {503, full_reason()};
    }
    return {static_cast<int>(behaviour.validation_status), "validation_failed"};
}

std::string results_json(const std::vector<ItemResult>& results) {
    std::string out = R"({"results":[)";
    for (std::size_t i = 0; i < results.size(); ++i) append_result(out, i, results[i]);
    return out + "]}";
}

std::string reversed_results_json(const std::vector<ItemResult>& results) {
    std::string out = R"({"results":[)";
    for (auto i = results.size(); i-- > 0;) append_result(out, i, results[i]);
    return out + "]}";
}

std::string refusal_json(std::string_view reason) {
    return fmt::format(R"({{"ok":false,"reason":{},"warnings":[]}})", json_string(reason));
}

std::string throttled_json(std::string_view reason) {
    return fmt::format(R"({{"ok":false,"reason":{},"telemetryPaused":false,)"
                       R"("providerCallsContinue":true,"warnings":[]}})",
                       json_string(reason));
}

std::string invalid_json(std::string_view reason, const std::vector<FieldError>& errors) {
    std::string list;
    for (const auto& error : errors) {
        if (!list.empty()) list += ',';
        list += fmt::format(R"({{"field":{},"message":{}}})", json_string(error.field),
                            json_string(error.message));
    }
    return fmt::format(R"({{"ok":false,"reason":{},"errors":[{}],"warnings":[]}})",
                       json_string(reason), list);
}

std::string plan_limit_json(const Behaviour& behaviour, const PlanAndBudget& state) {
    return fmt::format(R"({{"ok":false,"reason":"plan_limit_reached","telemetryPaused":true,)"
                       R"("providerCallsContinue":true,"isPlanLimitReached":true,"planTier":{},)"
                       R"("planLimitRequests":{},"freeLimitRemainingRequests":0,)"
                       R"("budgetWarning":{},"budgetExceeded":{},"warnings":[]}})",
                       json_string(tier(behaviour, Place::ingest)), state.limit, state.warning,
                       state.exceeded);
}

std::string budget_stop_json(const Behaviour& behaviour, std::string_view reason) {
    return fmt::format(R"({{"ok":false,"reason":{},"telemetryPaused":false,)"
                       R"("providerCallsContinue":true,"isPlanLimitReached":false,"planTier":{},)"
                       R"("budgetWarning":true,"budgetExceeded":true,"warnings":[]}})",
                       json_string(reason.empty() ? behaviour.budget.reason : reason),
                       json_string(tier(behaviour, Place::ingest)));
}

std::string status_json(const Behaviour& behaviour, const PlanAndBudget& state, WallTime now) {
    const auto& plan = behaviour.plan;
    const auto month = period_of(month_of(day_of(now)));
    std::string out = fmt::format(
        R"({{"workspaceId":"3b0f6b0e-6a0c-4a54-8a3f-0d7b1c9e2f44","isPlanLimitReached":{0},)"
        R"("telemetryPaused":{0},"providerCallsContinue":true,"isBudgetWarning":{1},)"
        R"("isBudgetExceeded":{2},"severity":"{3}",)",
        state.plan_reached, state.warning, state.exceeded, severity(behaviour, state));
    out += fmt::format(
        R"("plan":{{"planTier":{0},"planName":{1},"currentRequestCount":{2},)"
        R"("planRequestLimit":{3},"remainingRequestCount":{4},"isPlanLimitReached":{5},)"
        R"("telemetryPaused":{5},"periodStart":{6},"periodEnd":{7}}})",
        json_string(tier(behaviour, Place::status)), json_string(plan.name), state.used,
        state.limit, state.left, state.plan_reached, or_default(plan.period_start, month.start),
        or_default(plan.period_end, month.end));
    const auto budget = budget_member(behaviour.budget, state, now);
    return out + (budget.empty() ? "" : ",") + budget + '}';
}

}  // namespace opsrelay::upstream
