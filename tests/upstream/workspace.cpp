#include "upstream/workspace.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "upstream/catalog.h"

namespace opsrelay::upstream {

namespace {

// How far createdAt may be from now; beyond it a row belongs to the day it arrives.
constexpr std::chrono::days kPastMax{400};
constexpr std::chrono::days kAheadMax{1};

bool budget_stops(BudgetStop stop, bool exceeded) {
    switch (stop) {
        case BudgetStop::off: return false;
        case BudgetStop::exceeded: return exceeded;
        case BudgetStop::always: return true;
    }
    return false;
}

bool exceeds(double spend, double limit, BudgetEdge edge) {
    switch (edge) {
        case BudgetEdge::above: break;
        case BudgetEdge::reached: return spend >= limit;
    }
    return spend > limit;
}

}  // namespace

Outcome Workspace::take(std::string_view body, WallTime now) {
    auto checked = check_request(
        body, {behaviour_.lenient, behaviour_.unknown_fields == UnknownFields::rejected,
               static_cast<std::size_t>(behaviour_.id_bytes_max),
               behaviour_.created_at == CreatedAt::honoured});
    if (checked.missing_id) ++counts_.missing_id;
    if (!checked.errors.empty()) {
        ++counts_.invalid;
        return {Verdict::invalid, std::move(checked.errors)};
    }
    auto& submission = checked.submission;
    if (submission.id.empty()) submission.id = fmt::format("emulator-{}", ++minted_);
    return decide(submission, body, now);
}

Outcome Workspace::make_demo_row(WallTime now) {
    Submission demo;
    demo.id = fmt::format("demo-{}", ++minted_);
    demo.provider = "openai";
    demo.model = "gpt-4o-mini";
    demo.input_tokens = 742;
    demo.output_tokens = 96;
    demo.mode = DataMode::demo;
    const auto body = fmt::format(
        R"({{"externalRequestId":"{}","provider":"{}","model":"{}","inputTokens":{},)"
        R"("outputTokens":{},"status":"success","dataMode":"demo","environment":"dev"}})",
        demo.id, demo.provider, demo.model, demo.input_tokens, demo.output_tokens);
    return decide(demo, body, now);
}

Outcome Workspace::decide(const Submission& submission, std::string_view body, WallTime now) {
    const auto before = state(now);
    const auto day = booked_on(submission, now);
    if (before.plan_reached) {
        ++counts_.plan_blocked;
        return block(Verdict::plan_limit, behaviour_.plan.store_blocked, submission, body, day);
    }
    if (budget_stops(behaviour_.budget.stop, before.exceeded)) {
        ++counts_.budget_blocked;
        return block(Verdict::budget_stop, behaviour_.budget.store_blocked, submission, body, day);
    }
    const auto verdict = store(submission, body, day);
    const bool counts =
        verdict == Verdict::stored || (verdict == Verdict::repeated && behaviour_.count_duplicates);
    if (counts) usage_.add(day, {plan_share(submission.mode), 0});
    return {verdict, {}};
}

Outcome Workspace::block(Verdict verdict, bool stored, const Submission& submission,
                         std::string_view body, Day day) {
    if (stored && store(submission, body, day) == Verdict::full) return {Verdict::full, {}};
    if (behaviour_.count_blocked) usage_.add(day, {plan_share(submission.mode), 0});
    return {verdict, {}};
}

std::int64_t Workspace::plan_share(DataMode mode) const {
    return mode == DataMode::real || behaviour_.plan.count_test_rows ? 1 : 0;
}

std::uint64_t Workspace::cost_nano_usd(const Submission& submission) const {
    if (submission.mode != DataMode::real && !behaviour_.budget.count_test_rows) return 0;
    const auto* price =
        find_price(submission.provider, submission.model, behaviour_.model_matching);
    if (price == nullptr) return 0;
    return submission.input_tokens * price->input + submission.output_tokens * price->output;
}

/// A new row costs its money once, whatever is said to its sender.
Verdict Workspace::store(const Submission& submission, std::string_view body, Day day) {
    const bool replace = behaviour_.conflict == Conflict::last_wins;
    switch (rows_.insert(submission.id, body, submission.mode, replace)) {
        case RowTable::Inserted::added:
            usage_.add(day, {0, cost_nano_usd(submission)});
            return Verdict::stored;
        case RowTable::Inserted::different: ++counts_.repeated_different; break;
        case RowTable::Inserted::same: break;
        case RowTable::Inserted::full: ++counts_.full; return Verdict::full;
    }
    ++counts_.repeated;
    return Verdict::repeated;
}

Day Workspace::booked_on(const Submission& submission, WallTime now) const {
    const auto& created = submission.created_at;
    if (behaviour_.created_at != CreatedAt::honoured || !created) return day_of(now);
    if (*created < now - kPastMax || *created > now + kAheadMax) return day_of(now);
    return day_of(*created);
}

WindowState Workspace::state_of(const BudgetWindow& window, std::uint64_t nano_usd) const {
    WindowState state;
    state.spend_usd = window.spend_usd + static_cast<double>(nano_usd) / 1e9;
    if (window.limit_usd <= 0) return state;
    state.warning = state.spend_usd / window.limit_usd >= behaviour_.budget.warning_ratio;
    state.exceeded = exceeds(state.spend_usd, window.limit_usd, behaviour_.budget.edge);
    return state;
}

PlanAndBudget Workspace::state(WallTime now) const {
    const auto today = day_of(now);
    const auto month = usage_.of(month_of(today));
    const auto& budget = behaviour_.budget;
    PlanAndBudget state;
    state.limit = limit_of(behaviour_.plan);
    state.used = behaviour_.plan.used + month.requests;
    state.left = std::max<std::int64_t>(0, state.limit - state.used);
    state.plan_reached = state.limit > 0 && state.left == 0;
    state.daily = state_of(budget.daily, usage_.of(today).nano_usd);
    state.monthly = state_of(budget.monthly, month.nano_usd);
    const bool always = budget.stop == BudgetStop::always;
    state.warning = always || state.daily.warning || state.monthly.warning;
    state.exceeded = always || state.daily.exceeded || state.monthly.exceeded;
    return state;
}

void Workspace::clear() {
    rows_.clear();
    usage_.clear();
    counts_ = {};
    minted_ = 0;
}

}  // namespace opsrelay::upstream
