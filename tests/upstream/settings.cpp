#include "upstream/settings.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <cctype>

#include "upstream/faults_json.h"
#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

constexpr std::array<KnownPlan, 5> kPlans{{
    {"Free", 10'000},
    {"Starter", 100'000},
    {"Pro", 500'000},
    {"Team", 2'000'000},
    {"Enterprise", 0},
}};

constexpr std::int64_t kCountMax = 1'000'000'000'000;
constexpr std::int64_t kMsMax = 3'600'000;
constexpr std::size_t kKeysMax = 64;
constexpr std::size_t kScriptShownMax = 100;

bool same_without_case(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
        return std::tolower(static_cast<unsigned char>(x)) ==
               std::tolower(static_cast<unsigned char>(y));
    });
}

template <typename Duration>
void read_duration(ObjectReader& reader, std::string_view key, std::int64_t low, std::int64_t high,
                   Duration& out) {
    auto count = static_cast<std::int64_t>(out.count());
    reader.integer(key, low, high, count);
    out = Duration{count};
}

void read_plan(ObjectReader& parent, Plan& plan) {
    const auto* value = parent.take("plan");
    if (value == nullptr) return;
    ObjectReader reader(*value, "plan");
    reader.text("name", plan.name);
    reader.integer("limit", 0, kCountMax, plan.limit);
    reader.integer("used", 0, kCountMax, plan.used);
    reader.text("period_start", plan.period_start);
    reader.text("period_end", plan.period_end);
    const auto done = reader.finish();
    if (!done) parent.fail(done.error());
}

void read_window(ObjectReader& parent, std::string_view key, BudgetWindow& window) {
    const auto* value = parent.take(key);
    if (value == nullptr) return;
    ObjectReader reader(*value, parent.path_of(key));
    reader.real("limit_usd", window.limit_usd);
    reader.real("spend_usd", window.spend_usd);
    reader.text("period_start", window.period_start);
    reader.text("period_end", window.period_end);
    const auto done = reader.finish();
    if (!done) parent.fail(done.error());
}

void read_budget(ObjectReader& parent, Budget& budget) {
    const auto* value = parent.take("budget");
    if (value == nullptr) return;
    ObjectReader reader(*value, "budget");
    reader.choice("stop", kBudgetStops, budget.stop);
    reader.text("reason", budget.reason);
    reader.real("warning_ratio", budget.warning_ratio);
    read_window(reader, "daily", budget.daily);
    read_window(reader, "monthly", budget.monthly);
    const auto done = reader.finish();
    if (!done) parent.fail(done.error());
}

void read_keys(ObjectReader& reader, std::vector<std::string>& keys) {
    const auto* value = reader.take("api_keys");
    if (value == nullptr) return;
    const auto is_key = [](const rapidjson::Value& key) {
        return key.IsString() && key.GetStringLength() > 0;
    };
    if (!value->IsArray() || value->Size() > kKeysMax ||
        !std::all_of(value->Begin(), value->End(), is_key)) {
        return reader.fail("api_keys", "must be an array of at most 64 non-empty strings");
    }
    keys.clear();
    for (const auto& key : value->GetArray()) keys.emplace_back(text_of(key));
}

void read_faults(ObjectReader& reader, ControlChange& change) {
    if (const auto* value = reader.take("script")) {
        auto script = read_script(*value, "script");
        if (!script) return reader.fail(script.error());
        change.script = std::move(*script);
    }
    if (const auto* value = reader.take("rates")) {
        auto rates = read_rates(*value, "rates");
        if (!rates) return reader.fail(rates.error());
        change.rates = std::move(*rates);
    }
    std::int64_t seed = -1;
    reader.integer("seed", 0, INT64_MAX, seed);
    if (seed >= 0) change.seed = static_cast<std::uint64_t>(seed);
}

void append_text(std::string& out, std::string_view key, std::string_view value) {
    out += fmt::format(",\"{}\":", key);
    append_quoted(out, value);
}

void append_window(std::string& out, std::string_view key, const BudgetWindow& window) {
    out += fmt::format(R"(,"{}":{{"limit_usd":{},"spend_usd":{})", key, window.limit_usd,
                       window.spend_usd);
    append_text(out, "period_start", window.period_start);
    append_text(out, "period_end", window.period_end);
    out += '}';
}

void append_faults(std::string& out, const FaultPlan& faults) {
    out += fmt::format(",\"seed\":{},\"rates\":", faults.seed());
    append_rates(out, faults.rates());
    std::uint64_t left = 0;
    for (const auto& fault : faults.script()) left += fault.times;
    out += fmt::format(",\"script_left\":{},\"script\":[", left);
    const auto shown = std::min(faults.script().size(), kScriptShownMax);
    for (std::size_t i = 0; i < shown; ++i) {
        if (i > 0) out += ',';
        append_fault(out, faults.script()[i]);
    }
    out += ']';
}

}  // namespace

Result<KnownPlan> find_plan(std::string_view name) {
    for (const auto& plan : kPlans) {
        if (same_without_case(plan.name, name)) return plan;
    }
    return Error{Errc::config_invalid,
                 fmt::format("plan: \"{}\" is none of Free, Starter, Pro, Team, Enterprise", name)};
}

Result<ControlChange> parse_control(std::string_view json, const Behaviour& current) {
    rapidjson::Document document;
    document.Parse<rapidjson::kParseIterativeFlag>(json.data(), json.size());
    if (document.HasParseError()) {
        return Error{Errc::config_invalid,
                     fmt::format("body: not JSON at byte {}", document.GetErrorOffset())};
    }
    ControlChange change;
    change.behaviour = current;
    auto& to = change.behaviour;
    ObjectReader reader(document, "");
    reader.flag("down", to.down);
    read_keys(reader, to.api_keys);
    reader.integer("validation_status", 400, 422, to.validation_status);
    if (to.validation_status != 400 && to.validation_status != 422) {
        reader.fail("validation_status", "must be 400 or 422");
    }
    reader.flag("lenient", to.lenient);
    reader.choice("conflict", kConflicts, to.conflict);
    reader.flag("count_duplicates", to.count_duplicates);
    read_duration(reader, "latency_ms", 0, kMsMax, to.latency);
    read_duration(reader, "stall_ms", 1, kMsMax, to.stall);
    read_duration(reader, "idle_ms", 1, kMsMax, to.idle);
    read_duration(reader, "date_skew_s", -31'536'000, 31'536'000, to.date_skew);
    read_plan(reader, to.plan);
    read_budget(reader, to.budget);
    read_faults(reader, change);
    const auto done = reader.finish();
    if (!done) return done.error();
    return change;
}

std::string control_json(const Behaviour& now, const FaultPlan& faults) {
    std::string out = fmt::format("{{\"down\":{},\"api_keys\":[", now.down);
    for (const auto& key : now.api_keys) {
        if (out.back() != '[') out += ',';
        append_quoted(out, key);
    }
    out += fmt::format(
        R"(],"validation_status":{},"lenient":{},"conflict":"{}","count_duplicates":{})"
        R"(,"latency_ms":{},"stall_ms":{},"idle_ms":{},"date_skew_s":{})",
        now.validation_status, now.lenient, to_string(now.conflict), now.count_duplicates,
        now.latency.count(), now.stall.count(), now.idle.count(), now.date_skew.count());
    out += fmt::format(R"(,"plan":{{"limit":{},"used":{})", now.plan.limit, now.plan.used);
    append_text(out, "name", now.plan.name);
    append_text(out, "period_start", now.plan.period_start);
    append_text(out, "period_end", now.plan.period_end);
    out += fmt::format(R"(}},"budget":{{"stop":"{}","warning_ratio":{})",
                       to_string(now.budget.stop), now.budget.warning_ratio);
    append_text(out, "reason", now.budget.reason);
    append_window(out, "daily", now.budget.daily);
    append_window(out, "monthly", now.budget.monthly);
    out += '}';
    append_faults(out, faults);
    out += "}\n";
    return out;
}

}  // namespace opsrelay::upstream
