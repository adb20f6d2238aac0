#include "upstream/switches.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json_text.h"
#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

using rapidjson::Value;

constexpr std::int64_t kCountMax = 1'000'000'000'000;
constexpr std::int64_t kHourMs = 3'600'000;
constexpr std::int64_t kTenYearsMs = 315'360'000'000;
constexpr std::size_t kTextMax = 256;
constexpr std::size_t kKeysMax = 64;

// Kinds of values. `Path` is a chain of member pointers from Behaviour to the variable.
template <auto... Path>
constexpr auto& at(auto& behaviour) {
    return (behaviour.*....*Path);
}

template <auto... Path>
struct Flag {
    static std::string allowed() { return "true, false"; }
    static std::string show(const Behaviour& from) { return at<Path...>(from) ? "true" : "false"; }
    static bool set(Behaviour& to, const Value& value) {
        if (value.IsBool()) at<Path...>(to) = value.GetBool();
        return value.IsBool();
    }
};

template <std::int64_t Low, std::int64_t High, auto... Path>
struct Integer {
    static std::string allowed() { return fmt::format("{} to {}", Low, High); }
    static std::string show(const Behaviour& from) { return std::to_string(at<Path...>(from)); }
    static bool set(Behaviour& to, const Value& value) {
        if (!value.IsInt64() || value.GetInt64() < Low || value.GetInt64() > High) return false;
        at<Path...>(to) = value.GetInt64();
        return true;
    }
};

template <std::int64_t A, std::int64_t B, auto... Path>
struct Either {
    static std::string allowed() { return fmt::format("{}, {}", A, B); }
    static std::string show(const Behaviour& from) { return std::to_string(at<Path...>(from)); }
    static bool set(Behaviour& to, const Value& value) {
        if (!value.IsInt64() || (value.GetInt64() != A && value.GetInt64() != B)) return false;
        at<Path...>(to) = value.GetInt64();
        return true;
    }
};

template <std::int64_t High, auto... Path>
struct Real {
    static std::string allowed() { return fmt::format("number, 0 to {}", High); }
    static std::string show(const Behaviour& from) { return fmt::format("{}", at<Path...>(from)); }
    static bool set(Behaviour& to, const Value& value) {
        if (!value.IsNumber()) return false;
        const double number = value.GetDouble();
        // Tiny rates would make waits that no clock holds.
        if (number < 0 || number > static_cast<double>(High)) return false;
        if (number > 0 && number < 1e-9) return false;
        at<Path...>(to) = number;
        return true;
    }
};

template <auto... Path>
struct Text {
    static std::string allowed() { return "text"; }
    static std::string show(const Behaviour& from) { return json_string(at<Path...>(from)); }
    static bool set(Behaviour& to, const Value& value) {
        if (!value.IsString() || value.GetStringLength() > kTextMax) return false;
        at<Path...>(to) = text_of(value);
        return true;
    }
};

template <const auto& Table, auto... Path>
struct Choice {
    static std::string allowed() {
        std::string names;
        for (const auto& row : Table) names.append(names.empty() ? "" : ", ").append(row.name);
        return names;
    }
    static std::string show(const Behaviour& from) {
        return json_string(Table.at(index_of(at<Path...>(from))).name);
    }
    static bool set(Behaviour& to, const Value& value) {
        if (!value.IsString()) return false;
        const auto found = parse_enum(Table, text_of(value));
        if (found) at<Path...>(to) = *found;
        return found.has_value();
    }
};

template <auto... Path>
struct Texts {
    static std::string allowed() {
        return fmt::format("array of at most {} non-empty strings", kKeysMax);
    }
    static std::string show(const Behaviour& from) {
        std::string out = "[";
        for (const auto& text : at<Path...>(from)) {
            if (out.size() > 1) out += ',';
            out += json_string(text);
        }
        return out + ']';
    }
    static bool set(Behaviour& to, const Value& value) {
        const auto good = [](const Value& text) {
            return text.IsString() && text.GetStringLength() > 0 &&
                   text.GetStringLength() <= kTextMax;
        };
        if (!value.IsArray() || value.Size() > kKeysMax ||
            !std::all_of(value.Begin(), value.End(), good)) {
            return false;
        }
        auto& texts = at<Path...>(to);
        texts.clear();
        for (const auto& text : value.GetArray()) texts.emplace_back(text_of(text));
        return true;
    }
};

template <typename Kind>
constexpr Switch make(std::string_view key, Evidence evidence, std::string_view meaning) {
    return {key, evidence, meaning, &Kind::allowed, &Kind::show, &Kind::set};
}

using B = Behaviour;
using enum Evidence;

constexpr std::array kSwitches{
    make<Flag<&B::down>>(
        "down", tool,
        "The ingest port is closed and its connections are reset; the port stays this "
        "server's"),
    make<Integer<-kTenYearsMs, kTenYearsMs, &B::clock_offset_ms>>(
        "clock.offset_ms", tool, "The server's clock against the real one"),
    make<Integer<0, kHourMs, &B::latency_ms>>("latency_ms", tool, "Before every ingest reply"),
    make<Integer<1, kHourMs, &B::stall_ms>>("stall_ms", tool, "How long stall faults last"),
    make<Integer<1, kHourMs, &B::idle_ms>>("idle_ms", tool, "When an idle connection is closed"),
    make<Choice<kStatusReplies, &B::workspace_status>>(
        "workspace_status", tool, "GET workspace-status: the answer, 404, or 500 with HTML"),

    make<Texts<&B::api_keys>>("api_keys", inferred, "Keys that are accepted; []: any"),
    make<Choice<kDashboardAuths, &B::dashboard_auth>>("dashboard_auth", documented,
                                                      "Who may call the dashboard's endpoints"),
    make<Choice<kRoles, &B::role>>("role", documented,
                                   "Of the caller: a member gets 403 for scope=workspace"),
    make<Integer<1, 16 << 20, &B::body_bytes_max>>("body_bytes_max", unknown,
                                                   "Of a single request; more is 413"),
    make<Integer<1, 1000, &B::demo_rows>>("demo_rows", unknown, "Rows that POST demo makes"),

    make<Either<400, 422, &B::validation_status>>("validation_status", inferred,
                                                  "Of a request that is not valid"),
    make<Flag<&B::lenient>>("lenient", inferred,
                            "Only status is required; what is present still needs its type"),
    make<Choice<kUnknownFields, &B::unknown_fields>>("unknown_fields", inferred,
                                                     "Fields that no document names"),
    make<Integer<0, 65536, &B::id_bytes_max>>(
        "id_bytes_max", unknown, "Longest externalRequestId, else a validation error; 0: any"),

    make<Choice<kConflicts, &B::conflict>>(
        "conflict", inferred, "Content of a row whose id comes again with another one"),
    make<Choice<kDuplicateReplies, &B::duplicate_reply>>(
        "duplicate_reply", inferred, "To a repeated id: as before, with duplicate:true, or 409"),
    make<Flag<&B::count_duplicates>>("count_duplicates", inferred, "A repeat uses up the plan"),
    make<Flag<&B::count_blocked>>("count_blocked", inferred,
                                  "A request answered 402 uses up the plan"),
    make<Choice<kCreatedAts, &B::created_at>>(
        "created_at", unknown, "Whether createdAt says to which UTC day and month a row belongs"),
    make<Choice<kModelMatchings, &B::model_matching>>(
        "model_matching", documented, "How a model is found in the catalog; not found costs 0"),
    make<Choice<kTierCases, &B::plan_tier_case>>(
        "plan_tier_case", observed, "planTier; mixed: as named in replies, lower in the status"),
    make<Choice<kSeverities, &B::plan_limit_severity>>(
        "plan_limit_severity", inferred, "severity while the plan's limit is reached"),

    make<Text<&B::plan, &Plan::name>>("plan.name", documented,
                                      "Free, Starter, Pro and Team have a limit"),
    make<Integer<-1, kCountMax, &B::plan, &Plan::limit>>(
        "plan.limit", documented, "Requests a month; 0: none; -1: that of the name"),
    make<Integer<0, kCountMax, &B::plan, &Plan::used>>(
        "plan.used", tool, "Requests before the start; 0 again when the month ends"),
    make<Flag<&B::plan, &Plan::count_test_rows>>("plan.count_test_rows", unknown,
                                                 "dataMode test and demo use up the plan"),
    make<Flag<&B::plan, &Plan::store_blocked>>(
        "plan.store_blocked", inferred, "A request over the plan becomes a row all the same"),
    make<Text<&B::plan, &Plan::period_start>>(
        "plan.period_start", tool, "Sent as it is until the month ends; empty: the UTC month's"),
    make<Text<&B::plan, &Plan::period_end>>("plan.period_end", tool, "As period_start"),

    make<Choice<kBudgetStops, &B::budget, &Budget::stop>>("budget.stop", documented,
                                                          "When a budget answers 402"),
    make<Text<&B::budget, &Budget::reason>>("budget.reason", unknown, "reason of that 402"),
    make<Real<1000, &B::budget, &Budget::warning_ratio>>(
        "budget.warning_ratio", documented, "Part of a limit from which on there is a warning"),
    make<Choice<kBudgetEdges, &B::budget, &Budget::edge>>(
        "budget.edge", unknown, "Exceeded when the spend is above the limit, or has reached it"),
    make<Flag<&B::budget, &Budget::count_test_rows>>("budget.count_test_rows", unknown,
                                                     "dataMode test and demo cost money"),
    make<Flag<&B::budget, &Budget::store_blocked>>(
        "budget.store_blocked", unknown, "A request over the budget becomes a row all the same"),
    make<Choice<kNoBudgets, &B::budget, &Budget::without_limit>>(
        "budget.without_limit", unknown, "How workspace-status shows that there is no budget"),
    make<Real<kCountMax, &B::budget, &Budget::daily, &BudgetWindow::limit_usd>>(
        "budget.daily.limit_usd", documented, "Of a UTC day; 0: none"),
    make<Real<kCountMax, &B::budget, &Budget::daily, &BudgetWindow::spend_usd>>(
        "budget.daily.spend_usd", tool, "Spent before the start; 0 again when the day ends"),
    make<Text<&B::budget, &Budget::daily, &BudgetWindow::period_start>>(
        "budget.daily.period_start", tool,
        "Sent as it is until the day ends; empty: the UTC day's"),
    make<Text<&B::budget, &Budget::daily, &BudgetWindow::period_end>>("budget.daily.period_end",
                                                                      tool, "As period_start"),
    make<Real<kCountMax, &B::budget, &Budget::monthly, &BudgetWindow::limit_usd>>(
        "budget.monthly.limit_usd", documented, "Of a calendar month; 0: none"),
    make<Real<kCountMax, &B::budget, &Budget::monthly, &BudgetWindow::spend_usd>>(
        "budget.monthly.spend_usd", tool, "Spent before the start; 0 again when the month ends"),
    make<Text<&B::budget, &Budget::monthly, &BudgetWindow::period_start>>(
        "budget.monthly.period_start", tool,
        "Sent as it is until the month ends; empty: the UTC month's"),
    make<Text<&B::budget, &Budget::monthly, &BudgetWindow::period_end>>("budget.monthly.period_end",
                                                                        tool, "As period_start"),

    make<Real<1'000'000, &B::rate_limit, &RateLimit::per_second>>(
        "rate_limit.per_second", unknown, "Ingest requests of all keys together; 0: no limit"),
    make<Integer<1, 1'000'000, &B::rate_limit, &RateLimit::burst>>(
        "rate_limit.burst", unknown, "Requests at once before it holds"),
    make<Choice<kThrottleHints, &B::rate_limit, &RateLimit::retry_after>>(
        "rate_limit.retry_after", documented, "Form of Retry-After with its 429"),

    make<Integer<1, 1'000'000, &B::batch, &BatchLimits::items_max>>(
        "batch.items_max", tool, "Items of one batch request; more is 413"),
    make<Integer<1, 16 << 20, &B::batch, &BatchLimits::bytes_max>>(
        "batch.bytes_max", tool, "Its bytes before and after decompression; more is 413"),
    make<Choice<kBatchCodings, &B::batch, &BatchLimits::codings>>(
        "batch.codings", tool, "Content-Encoding that it may have, else 415"),

    make<Text<&B::poison, &Poison::text>>(
        "poison.text", tool, "A single request whose body contains it fails; empty: none does"),
    make<Integer<300, 599, &B::poison, &Poison::status>>("poison.status", tool, "How it fails"),
    make<Flag<&B::poison, &Poison::page>>("poison.page", tool, "With an HTML body"),
    make<Real<86'400, &B::poison, &Poison::retry_after_s>>("poison.retry_after_s", tool,
                                                           "With this Retry-After; 0: with none"),
};

}  // namespace

std::span<const Switch> switches() { return kSwitches; }

std::vector<std::string_view> switch_keys() {
    std::vector<std::string_view> keys;
    for (const auto& one : kSwitches) keys.push_back(one.key);
    return keys;
}

const Switch* find_switch(std::string_view key) {
    const auto found = std::find_if(kSwitches.begin(), kSwitches.end(),
                                    [&](const Switch& one) { return one.key == key; });
    return found == kSwitches.end() ? nullptr : &*found;
}

Result<void> set_switch(Behaviour& behaviour, const Switch& which, const Value& value) {
    if (which.set(behaviour, value)) return {};
    return Error{Errc::config_invalid, fmt::format("{}: {} is not allowed; allowed: {}", which.key,
                                                   short_json(value), which.allowed())};
}

Result<void> set_switch(Behaviour& behaviour, std::string_view assignment) {
    const auto equals = assignment.find('=');
    if (equals == std::string_view::npos) {
        return Error{Errc::config_invalid,
                     fmt::format("--set {}: write KEY=VALUE, as in plan.limit=3", assignment)};
    }
    const auto text = assignment.substr(equals + 1);
    rapidjson::Document value;
    value.Parse<rapidjson::kParseIterativeFlag>(text.data(), text.size());
    if (value.HasParseError()) {
        value.SetString(text.data(), static_cast<rapidjson::SizeType>(text.size()),
                        value.GetAllocator());
    }
    const auto key = assignment.substr(0, equals);
    const auto* which = find_switch(key);
    const auto done = which == nullptr ? Result<void>(unknown_key_error(key, value, switch_keys()))
                                       : set_switch(behaviour, *which, value);
    if (done) return {};
    return with_prefix(done.error(), "--set");
}

}  // namespace opsrelay::upstream
