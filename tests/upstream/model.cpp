#include "upstream/model.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cmath>

#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

/// Prices in billionths of a dollar per token, that is USD per million tokens times 1000.
struct Price {
    std::string_view provider;
    std::string_view model;
    std::uint64_t input;
    std::uint64_t output;
};
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

std::string lower(std::string_view text) {
    std::string out(text);
    for (auto& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

std::string quoted(std::string_view text) {
    std::string out;
    append_quoted(out, text);
    return out;
}

struct Period {
    std::string start;
    std::string end;
};

std::string utc_text(std::chrono::sys_seconds time) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time.time_since_epoch().count()));
}

Period day_of(WallTime now) {
    const auto day = std::chrono::floor<std::chrono::days>(now);
    return {utc_text(day), utc_text(day + std::chrono::days{1} - seconds{1})};
}

Period month_of(WallTime now) {
    using namespace std::chrono;
    const year_month_day today{floor<days>(now)};
    const sys_days first{today.year() / today.month() / 1};
    const sys_days last{today.year() / today.month() / std::chrono::last};
    return {utc_text(first), utc_text(last + days{1} - std::chrono::seconds{1})};
}

Period chosen(const std::string& start, const std::string& end, Period fallback) {
    if (!start.empty()) fallback.start = start;
    if (!end.empty()) fallback.end = end;
    return fallback;
}

}  // namespace

std::string refusal_json(std::string_view reason) {
    return fmt::format(R"({{"ok":false,"reason":{},"warnings":[]}})", quoted(reason));
}

std::string throttled_json(std::string_view reason) {
    return fmt::format(R"({{"ok":false,"reason":{},"telemetryPaused":false,)"
                       R"("providerCallsContinue":true,"warnings":[]}})",
                       quoted(reason));
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

std::uint64_t cost_nano_usd(const Submission& submission) noexcept {
    for (const auto& price : kPrices) {
        if (price.provider != submission.provider || price.model != submission.model) continue;
        return submission.input_tokens * price.input + submission.output_tokens * price.output;
    }
    return 0;
}

bool Workspace::plan_reached() const noexcept {
    return behaviour_.plan.limit > 0 && plan_used() >= behaviour_.plan.limit;
}

std::int64_t Workspace::plan_left() const noexcept {
    return std::max<std::int64_t>(0, behaviour_.plan.limit - plan_used());
}

double Workspace::spend(const BudgetWindow& window) const noexcept {
    return window.spend_usd + static_cast<double>(spent_nano_usd_) / 1e9;
}

Workspace::BudgetState Workspace::state_of(const BudgetWindow& window) const noexcept {
    if (window.limit_usd <= 0) return {false, false};
    const auto spent = spend(window);
    return {spent / window.limit_usd >= behaviour_.budget.warning_ratio, spent > window.limit_usd};
}

Workspace::BudgetState Workspace::budget_state() const noexcept {
    const auto daily = state_of(behaviour_.budget.daily);
    const auto monthly = state_of(behaviour_.budget.monthly);
    const bool stopped = behaviour_.budget.stop == BudgetStop::always;
    return {stopped || daily.warning || monthly.warning,
            stopped || daily.exceeded || monthly.exceeded};
}

bool Workspace::budget_stops() const noexcept {
    switch (behaviour_.budget.stop) {
        case BudgetStop::off: return false;
        case BudgetStop::exceeded: return budget_state().exceeded;
        case BudgetStop::always: return true;
    }
    return false;
}

Answer Workspace::ingest(std::string_view body) {
    const auto checked = check_request(body, behaviour_.lenient);
    if (checked.missing_id) ++counts_.missing_id;
    if (!checked.errors.empty()) {
        ++counts_.invalid;
        return invalid(checked.errors);
    }
    if (plan_reached()) {
        ++counts_.plan_blocked;
        return {402, plan_limit_json()};
    }
    if (budget_stops()) {
        ++counts_.budget_blocked;
        return {402, budget_stop_json({})};
    }
    return store(checked.submission, body);
}

Answer Workspace::store(const Submission& submission, std::string_view body) {
    std::string minted;
    if (submission.id.empty()) minted = fmt::format("emulator-{}", ++minted_);
    const std::string_view id = submission.id.empty() ? minted : submission.id;
    const bool replace = behaviour_.conflict == Conflict::last_wins;
    switch (rows_.insert(id, body, replace)) {
        case RowTable::Inserted::added:
            ++counted_;
            spent_nano_usd_ += cost_nano_usd(submission);
            break;
        case RowTable::Inserted::different: ++counts_.repeated_different; [[fallthrough]];
        case RowTable::Inserted::same:
            ++counts_.repeated;
            if (behaviour_.count_duplicates) ++counted_;
            break;
        case RowTable::Inserted::full:
            ++counts_.full;
            return {503, refusal_json("emulator_full: raise --max-rows or use --ids-only")};
    }
    return {200, accepted_json()};
}

Answer Workspace::invalid(const std::vector<FieldError>& errors) const {
    std::string list;
    for (const auto& error : errors) {
        if (!list.empty()) list += ',';
        list += fmt::format(R"({{"field":{},"message":{}}})", quoted(error.field),
                            quoted(error.message));
    }
    return {static_cast<int>(behaviour_.validation_status),
            fmt::format(R"({{"ok":false,"reason":"validation_failed","errors":[{}],)"
                        R"("warnings":[]}})",
                        list)};
}

std::string Workspace::accepted_json() const {
    const auto budget = budget_state();
    return fmt::format(R"({{"ok":true,"planTier":{},"warnings":[],"reason":null,)"
                       R"("telemetryPaused":false,"providerCallsContinue":true,)"
                       R"("isPlanLimitReached":false,"budgetWarning":{},"budgetExceeded":{},)"
                       R"("planLimitRequests":{},"freeLimitRemainingRequests":{}}})",
                       quoted(behaviour_.plan.name), budget.warning, budget.exceeded,
                       behaviour_.plan.limit, plan_left());
}

std::string Workspace::plan_limit_json() const {
    const auto budget = budget_state();
    return fmt::format(R"({{"ok":false,"reason":"plan_limit_reached","telemetryPaused":true,)"
                       R"("providerCallsContinue":true,"isPlanLimitReached":true,"planTier":{},)"
                       R"("planLimitRequests":{},"freeLimitRemainingRequests":0,)"
                       R"("budgetWarning":{},"budgetExceeded":{},"warnings":[]}})",
                       quoted(behaviour_.plan.name), behaviour_.plan.limit, budget.warning,
                       budget.exceeded);
}

std::string Workspace::budget_stop_json(std::string_view reason) const {
    return fmt::format(R"({{"ok":false,"reason":{},"telemetryPaused":false,)"
                       R"("providerCallsContinue":true,"isPlanLimitReached":false,"planTier":{},)"
                       R"("budgetWarning":true,"budgetExceeded":true,"warnings":[]}})",
                       quoted(reason.empty() ? behaviour_.budget.reason : reason),
                       quoted(behaviour_.plan.name));
}

void Workspace::append_window(std::string& out, std::string_view period, const BudgetWindow& window,
                              WallTime now) const {
    const auto times = chosen(window.period_start, window.period_end,
                              period == "daily" ? day_of(now) : month_of(now));
    const auto state = state_of(window);
    const auto spent = spend(window);
    const auto ratio =
        window.limit_usd > 0 ? std::round(spent / window.limit_usd * 10'000) / 10'000 : 0.0;
    out += fmt::format(R"("{}":{{"limitUsd":{},"currentSpendUsd":{},"utilizationRatio":{},)"
                       R"("isWarning":{},"isExceeded":{},"period":"{}","periodStart":{},)"
                       R"("periodEnd":{}}})",
                       period, window.limit_usd, spent, ratio, state.warning, state.exceeded,
                       period, quoted(times.start), quoted(times.end));
}

std::string Workspace::status_json(WallTime now) const {
    const auto& plan = behaviour_.plan;
    const bool reached = plan_reached();
    const auto budget = budget_state();
    const std::string_view severity = reached || budget.exceeded ? "critical"
                                      : budget.warning           ? "warning"
                                                                 : "normal";
    const auto period = chosen(plan.period_start, plan.period_end, month_of(now));
    std::string out = fmt::format(
        R"({{"workspaceId":"3b0f6b0e-6a0c-4a54-8a3f-0d7b1c9e2f44","isPlanLimitReached":{0},)"
        R"("telemetryPaused":{0},"providerCallsContinue":true,"isBudgetWarning":{1},)"
        R"("isBudgetExceeded":{2},"severity":"{3}",)",
        reached, budget.warning, budget.exceeded, severity);
    out += fmt::format(
        R"("plan":{{"planTier":{0},"planName":{1},"currentRequestCount":{2},)"
        R"("planRequestLimit":{3},"remainingRequestCount":{4},"isPlanLimitReached":{5},)"
        R"("telemetryPaused":{5},"periodStart":{6},"periodEnd":{7}}},)",
        quoted(lower(plan.name)), quoted(plan.name), plan_used(), plan.limit, plan_left(), reached,
        quoted(period.start), quoted(period.end));
    out +=
        fmt::format(R"("budget":{{"warningThresholdRatio":{},)", behaviour_.budget.warning_ratio);
    append_window(out, "daily", behaviour_.budget.daily, now);
    out += ',';
    append_window(out, "monthly", behaviour_.budget.monthly, now);
    return out + "}}";
}

void Workspace::clear() {
    rows_.clear();
    counts_ = {};
    counted_ = 0;
    spent_nano_usd_ = 0;
    minted_ = 0;
}

}  // namespace opsrelay::upstream
