#include "forward/retry.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <array>

#include "forward/http_date.h"
#include "forward/reply_fields.h"

namespace opsrelay::forward {

namespace {

constexpr std::size_t kPlanTierBytesMax = 64;

using Json = rapidjson::Document;
using Value = rapidjson::Value;

// Iterative: a body of 64 KiB of '[' must not use up the stack.
constexpr unsigned kParseFlags =
    rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;

std::string_view without_space(std::string_view text) {
    const auto first = text.find_first_not_of(" \t\r\n");
    return first == std::string_view::npos ? std::string_view{} : text.substr(first);
}

bool parse_object(const Reply& reply, Json& json) {
    if (reply.body_cut) return false;
    json.Parse<kParseFlags>(reply.body.data(), reply.body.size());
    return !json.HasParseError() && json.IsObject();
}

const Value* member(const Value& object, const char* name) {
    const auto found = object.FindMember(name);
    return found == object.MemberEnd() ? nullptr : &found->value;
}

std::optional<bool> flag(const Value& object, const char* name) {
    const auto* value = member(object, name);
    if (value == nullptr || !value->IsBool()) return std::nullopt;
    return value->GetBool();
}

std::optional<std::string> text(const Value& object, const char* name) {
    const auto* value = member(object, name);
    if (value == nullptr || !value->IsString()) return std::nullopt;
    return std::string(value->GetString(), value->GetStringLength());
}

std::optional<WallTime> time(const Value& object, const char* name) {
    const auto value = text(object, name);
    return value ? parse_iso8601(*value) : std::nullopt;
}

std::optional<std::string> bounded_tier(std::optional<std::string> tier) {
    if (tier && (tier->empty() || tier->size() > kPlanTierBytesMax)) return std::nullopt;
    return tier;
}

PlanUpdate plan_of(const ReplyFields& fields) {
    PlanUpdate update;
    update.plan_tier = bounded_tier(fields.plan_tier);
    update.telemetry_paused = fields.telemetry_paused;
    update.plan_limit_reached = fields.plan_limit_reached;
    update.budget_warning = fields.budget_warning;
    update.budget_exceeded = fields.budget_exceeded;
    return update;
}

std::optional<ReplyFields> fields_of(const Reply& reply) {
    return reply.body_cut ? std::nullopt : read_fields(reply.body);
}

Verdict by_reason(std::string_view reason) {
    if (reason == "plan_limit_reached") return Verdict::plan_limited;
    if (reason == "invalid_api_key") return Verdict::unauthorized;
    if (reason == "rate_limited") return Verdict::throttled;
    if (reason == "validation_failed") return Verdict::rejected;
    return Verdict::backoff;
}

Verdict by_body(const Reply& reply, const std::optional<ReplyFields>& fields) {
    if (!reply.body_cut && without_space(reply.body).empty()) return Verdict::delivered;
    if (!fields) return Verdict::not_the_api;
    if (fields->ok.value_or(true)) return Verdict::delivered;
    return by_reason(fields->reason.value_or(""));
}

Verdict by_payment(const std::optional<ReplyFields>& fields) {
    if (!fields) return Verdict::budget_stopped;
    const bool limited = fields->telemetry_paused.value_or(false) ||
                         fields->plan_limit_reached.value_or(false) ||
                         fields->reason == "plan_limit_reached";
    return limited ? Verdict::plan_limited : Verdict::budget_stopped;
}

Verdict by_status(int status) {
    switch (status) {
        case 409: return Verdict::delivered;
        case 400:
        case 413:
        case 422: return Verdict::rejected;
        case 401:
        case 403: return Verdict::unauthorized;
        case 408:
        case 425: return Verdict::backoff;
        case 429: return Verdict::throttled;
        default: return status >= 500 ? Verdict::backoff : Verdict::misconfigured;
    }
}

// A page for humans: some other server answered, whatever the status means there. What gateways and
// servers in front of the API say with a page and mean is left out: too large, too slow, too often.
bool is_page(const Reply& reply) {
    constexpr std::array kMeantAllTheSame{408, 413, 425, 429};
    if (reply.status < 400 || reply.status >= 500) return false;
    const auto* const end = kMeantAllTheSame.end();
    if (std::find(kMeantAllTheSame.begin(), end, reply.status) != end) return false;
    return without_space(reply.body).starts_with('<');
}

// The verdict itself says something about the plan, also when the body does not.
void complete_plan(Verdict verdict, PlanUpdate& plan) {
    if (verdict == Verdict::delivered) {
        if (!plan.telemetry_paused) plan.telemetry_paused = false;
        if (!plan.plan_limit_reached) plan.plan_limit_reached = false;
    } else if (verdict == Verdict::plan_limited) {
        plan.telemetry_paused = true;
        plan.plan_limit_reached = true;
    } else if (verdict == Verdict::budget_stopped) {
        plan.budget_exceeded = true;
    }
}

// Folds one budget window into the earliest end, exceeded windows before all others.
void fold_window(const Value& budget, const char* name, bool& exceeded_only,
                 std::optional<WallTime>& earliest) {
    const auto* window = member(budget, name);
    if (window == nullptr || !window->IsObject()) return;
    const auto end = time(*window, "periodEnd");
    if (!end) return;
    const bool exceeded = flag(*window, "isExceeded").value_or(false);
    if (exceeded_only && !exceeded) return;
    if (exceeded && !exceeded_only) {
        exceeded_only = true;
        earliest = *end;
        return;
    }
    earliest = earliest ? std::min(*earliest, *end) : *end;
}

}  // namespace

void PlanUpdate::apply_to(PlanFields& fields) const {
    if (plan_tier) fields.plan_tier = *plan_tier;
    if (telemetry_paused) fields.telemetry_paused = *telemetry_paused;
    if (plan_limit_reached) fields.plan_limit_reached = *plan_limit_reached;
    if (budget_warning) fields.budget_warning = *budget_warning;
    if (budget_exceeded) fields.budget_exceeded = *budget_exceeded;
}

Decision classify(const Reply& reply, WallTime now) {
    Decision decision;
    if (reply.transport != Transport::ok) return decision;
    if (reply.retry_after) {
        decision.retry_after = parse_retry_after(*reply.retry_after, reply.date, now);
    }
    const auto fields = fields_of(reply);
    if (fields) decision.plan = plan_of(*fields);
    if (reply.status >= 200 && reply.status < 300) {
        decision.verdict = by_body(reply, fields);
    } else if (is_page(reply)) {
        decision.verdict = Verdict::not_the_api;
    } else if (reply.status == 402) {
        decision.verdict = by_payment(fields);
    } else {
        decision.verdict = by_status(reply.status);
    }
    complete_plan(decision.verdict, decision.plan);
    return decision;
}

std::string describe_code(const Reply& reply) {
    if (reply.transport != Transport::ok) return std::string(to_string(reply.transport));
    return fmt::format("{}", reply.status);
}

WorkspaceStatus read_workspace_status(const Reply& reply) {
    WorkspaceStatus status;
    Json json;
    if (reply.transport != Transport::ok || reply.status != 200) return status;
    if (!parse_object(reply, json)) return status;
    const auto paused = flag(json, "telemetryPaused");
    const auto limited = flag(json, "isPlanLimitReached");
    if (!paused && !limited) return status;
    status.readable = true;
    status.paused = paused.value_or(false) || limited.value_or(false);
    status.plan.telemetry_paused = paused;
    status.plan.plan_limit_reached = limited;
    status.plan.budget_warning = flag(json, "isBudgetWarning");
    status.plan.budget_exceeded = flag(json, "isBudgetExceeded");
    if (const auto* plan = member(json, "plan"); plan != nullptr && plan->IsObject()) {
        status.plan_period_end = time(*plan, "periodEnd");
        status.plan.plan_tier = bounded_tier(text(*plan, "planTier"));
        if (flag(*plan, "telemetryPaused").value_or(false)) status.paused = true;
        if (flag(*plan, "isPlanLimitReached").value_or(false)) status.paused = true;
    }
    if (const auto* budget = member(json, "budget"); budget != nullptr && budget->IsObject()) {
        bool exceeded_only = false;
        fold_window(*budget, "daily", exceeded_only, status.budget_period_end);
        fold_window(*budget, "monthly", exceeded_only, status.budget_period_end);
    }
    return status;
}

milliseconds deferral(unsigned failures, Rng& rng) {
    constexpr milliseconds kFirst = minutes{1};
    constexpr milliseconds kLast = hours{6};
    auto wait = kFirst;
    for (auto i = kStuckFailures; i < failures && wait < kLast; ++i) wait *= 2;
    wait = std::min(wait, kLast);
    return rng.between(wait / 2, wait);
}

milliseconds Backoff::after(unsigned failures) {
    auto ceiling = base_;
    for (unsigned i = 0; i < failures && ceiling < max_; ++i) ceiling *= 2;
    ceiling = std::clamp(ceiling, milliseconds{1}, std::max(max_, milliseconds{1}));
    return rng_.between(milliseconds{1}, ceiling);
}

}  // namespace opsrelay::forward
