#include "listen/http_status.h"

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <string>
#include <string_view>

namespace opsrelay::listen {

namespace {

using Json = rapidjson::Document;

// What templates read, before upstream said anything.
constexpr std::string_view kUnknown =
    R"({"workspaceId":null,"isPlanLimitReached":false,"telemetryPaused":false,)"
    R"("providerCallsContinue":true,"isBudgetWarning":false,"isBudgetExceeded":false,)"
    R"("severity":"normal",)"
    R"("plan":{"planTier":null,"isPlanLimitReached":false,"telemetryPaused":false},)"
    R"("budget":{"daily":{"currentSpendUsd":null},"monthly":{"currentSpendUsd":null}}})";

std::string_view severity_of(const PlanFields& plan) noexcept {
    if (plan.budget_exceeded || plan.plan_limit_reached) return "critical";
    return plan.budget_warning ? "warning" : "normal";
}

// Writing goes down with the values.
bool shallow(std::string_view text) noexcept {
    constexpr int kDepthMax = 32;
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size() && depth <= kDepthMax; ++i) {
        const char c = text[i];
        if (in_string && c == '\\') {
            ++i;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string) {
            depth += (c == '{' || c == '[' ? 1 : 0) - (c == '}' || c == ']' ? 1 : 0);
        }
    }
    return depth <= kDepthMax;
}

bool parse(Json& json, std::string_view text) {
    if (!shallow(text)) return false;
    // Iterative: a body of 64 KiB of '[' must not use up the stack.
    json.Parse<rapidjson::kParseIterativeFlag>(text.data(), text.size());
    return !json.HasParseError() && json.IsObject();
}

void set(rapidjson::Value& object, Json& json, const char* name, rapidjson::Value value) {
    if (object.HasMember(name)) {
        object[name] = value;
    } else {
        object.AddMember(rapidjson::StringRef(name), value, json.GetAllocator());
    }
}

rapidjson::Value text(Json& json, std::string_view value) {
    return {value.data(), static_cast<rapidjson::SizeType>(value.size()), json.GetAllocator()};
}

}  // namespace

HttpReply workspace_reply(const PlanFields& plan, const std::optional<WorkspaceAnswer>& answer,
                          TimePoint now) {
    HttpReply reply;
    if (answer && answer->fresh(now)) {
        reply.body = answer->body;
        return reply;
    }
    Json json;
    if (!answer || !parse(json, answer->body)) (void)parse(json, kUnknown);
    set(json, json, "isPlanLimitReached", rapidjson::Value(plan.plan_limit_reached));
    set(json, json, "telemetryPaused", rapidjson::Value(plan.telemetry_paused));
    set(json, json, "providerCallsContinue", rapidjson::Value(true));
    set(json, json, "isBudgetWarning", rapidjson::Value(plan.budget_warning));
    set(json, json, "isBudgetExceeded", rapidjson::Value(plan.budget_exceeded));
    set(json, json, "severity", text(json, severity_of(plan)));
    if (json.HasMember("plan") && json["plan"].IsObject()) {
        auto& inner = json["plan"];
        set(inner, json, "isPlanLimitReached", rapidjson::Value(plan.plan_limit_reached));
        set(inner, json, "telemetryPaused", rapidjson::Value(plan.telemetry_paused));
        if (!plan.plan_tier.empty()) set(inner, json, "planTier", text(json, plan.plan_tier));
    }
    set(json, json, "stale", rapidjson::Value(true));
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    json.Accept(writer);
    reply.body.assign(buffer.GetString(), buffer.GetSize());
    return reply;
}

}  // namespace opsrelay::listen
