#include "listen/http_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "core/api_path.h"
#include "core/browser_rules.h"
#include "core/json_text.h"
#include "listen/content_coding.h"
#include "listen/http_batch.h"

namespace opsrelay::listen {

namespace {

constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string_view trimmed(std::string_view text) noexcept {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool is_json(std::string_view content_type) noexcept {
    return same_text(trimmed(content_type.substr(0, content_type.find(';'))), "application/json");
}

HttpReply not_confirmed(std::string_view reason, const std::string& id, std::string_view message) {
    auto reply = error_reply(503, reason, "", message);
    if (!id.empty()) {
        reply.body.pop_back();
        reply.body += fmt::format(",\"externalRequestId\":{}}}", json_string(id));
    }
    reply.retry_after = 1;
    return reply;
}

constexpr std::string_view kDuplicate = ",\"duplicate\":true}";

// Upstream's reply shape; `reason` empty: taken.
std::string plan_body(const std::string& id, std::string_view reason, const PlanFields& plan,
                      bool duplicate) {
    return fmt::format(
        "{{\"ok\":{},\"externalRequestId\":{},\"reason\":{},\"telemetryPaused\":{},"
        "\"providerCallsContinue\":true,\"isPlanLimitReached\":{},\"budgetWarning\":{},"
        "\"budgetExceeded\":{},\"planTier\":{},\"warnings\":[]{}",
        reason.empty(), json_string(id), reason.empty() ? "null" : json_string(reason),
        plan.telemetry_paused, plan.plan_limit_reached, plan.budget_warning, plan.budget_exceeded,
        plan.plan_tier.empty() ? "null" : json_string(plan.plan_tier),
        duplicate ? kDuplicate : "}");
}

HttpReply accepted(const Offered& offered, const PlanFields& plan, bool duplicate) {
    HttpReply reply;
    reply.body = plan_body(offered.id, {}, plan, duplicate);
    return reply;
}

HttpReply over_rate(const Offered& offered) {
    auto reply = error_reply(429, to_string(offered.shed), "",
                             "not accepted, this peer is over the listener's rate_limit; send it "
                             "again later");
    reply.retry_after = 1;
    return reply;
}

std::string_view status_text(int status) noexcept {
    switch (status) {
        case 200: return "OK";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 402: return "Payment Required";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 408: return "Request Timeout";
        case 413: return "Content Too Large";
        case 415: return "Unsupported Media Type";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 503: return "Service Unavailable";
        default: return "Error";
    }
}

std::string extra_headers(const HttpReply& reply) {
    std::string headers;
    if (!reply.allow.empty()) headers += fmt::format("Allow: {}\r\n", reply.allow);
    if (reply.challenge) headers += "WWW-Authenticate: Bearer\r\n";
    if (reply.retry_after != 0) headers += fmt::format("Retry-After: {}\r\n", reply.retry_after);
    return headers;
}

struct KnownPath {
    std::string_view path;
    HttpTarget target;
};
constexpr std::array<KnownPath, 3> kPaths{{
    {kEventPath, HttpTarget::event},
    {kBatchPath, HttpTarget::batch},
    {kStatusPath, HttpTarget::workspace_status},
}};

// The NAME of a prefix that ends in "/lanes/NAME".
std::optional<std::string> lane_in(std::string_view prefix) {
    constexpr std::string_view kLanes = "/lanes";
    const auto slash = prefix.rfind('/');
    if (slash == std::string_view::npos) return std::nullopt;
    if (!prefix.substr(0, slash).ends_with(kLanes)) return std::nullopt;
    return std::string(prefix.substr(slash + 1));
}

// The request's own words are not repeated.
std::optional<HttpReply> refused_path(const HttpHead& head) {
    const auto& route = head.route;
    if (route.target == HttpTarget::unknown) {
        return error_reply(
            404, "not_found", "",
            fmt::format("the paths here are {}, {} and {}", kEventPath, kBatchPath, kStatusPath));
    }
    if (route.lane && lane_of(route, head.lanes) == nullptr) {
        std::string names;
        for (const auto& one : head.lanes) names += (names.empty() ? "" : ", ") + one.name;
        return error_reply(404, "unknown_lane", "",
                           fmt::format("there is no such lane; there are {}", names));
    }
    const bool reads = route.target == HttpTarget::workspace_status;
    const bool reading = head.method == "GET" || head.method == "HEAD";
    if (reads ? reading : head.method == "POST") return std::nullopt;
    const std::string_view methods = reads ? "GET, HEAD" : "POST";
    auto reply =
        error_reply(405, "method_not_allowed", "", fmt::format("use {}", reads ? "GET" : "POST"));
    reply.allow = methods;
    return reply;
}

std::optional<HttpReply> refused_event(const HttpHead& head) {
    if (head.content_type && !is_json(*head.content_type)) {
        return error_reply(415, "unsupported_media_type", "Content-Type",
                           "must be application/json");
    }
    const auto& coding = head.content_encoding;
    if (coding && content_coding(*coding) != ContentCoding::identity) {
        return error_reply(415, "unsupported_media_type", "Content-Encoding",
                           "must be absent or identity");
    }
    return std::nullopt;
}

std::optional<HttpReply> refused_batch(const HttpHead& head) {
    if (head.content_type && !batch_form(*head.content_type)) {
        return error_reply(415, "unsupported_media_type", "Content-Type",
                           "must be application/json or application/x-ndjson");
    }
    const auto& coding = head.content_encoding;
    if (coding && !content_coding(*coding)) {
        return error_reply(415, "unsupported_media_type", "Content-Encoding",
                           "must be absent, identity, gzip or zstd");
    }
    return std::nullopt;
}

}  // namespace

HttpReply error_reply(int status, std::string_view reason, std::string_view field,
                      std::string_view message) {
    HttpReply reply;
    reply.status = status;
    reply.body = fmt::format(
        "{{\"ok\":false,\"reason\":{},\"errors\":[{{\"field\":{},\"message\":{}}}],"
        "\"warnings\":[]}}",
        json_string(reason), json_string(field), json_string(message));
    return reply;
}

HttpRoute route_of(std::string_view target) {
    target = target.substr(0, target.find_first_of("?#"));
    std::string path;
    path.reserve(target.size());
    for (const char c : target) {
        if (c != '/' || !path.ends_with('/')) path += c;
    }
    if (path.size() > 1 && path.ends_with('/')) path.pop_back();
    for (const auto& known : kPaths) {
        if (!path.ends_with(known.path)) continue;
        const std::string_view prefix(path.data(), path.size() - known.path.size());
        return {known.target, lane_in(prefix)};
    }
    return {};
}

const LaneName* lane_of(const HttpRoute& route, std::span<const LaneName> lanes) {
    const auto found = std::find_if(lanes.begin(), lanes.end(),
                                    [&](const LaneName& one) { return one.name == route.lane; });
    return found == lanes.end() ? nullptr : &*found;
}

bool same_text(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<HttpReply> refusal(const HttpHead& head) {
    if (!head.any_host) {
        if (!head.host) return error_reply(400, "bad_request", "Host", "must be present");
        const auto host = trimmed(*head.host);
        if (!is_local_host(host) && !is_named_host(host, head.allowed_hosts)) {
            return error_reply(403, "host_not_allowed", "Host",
                               "must be localhost, 127.0.0.1, [::1] or one of http.allowed_hosts");
        }
    }
    if (head.origin && !is_local_origin(trimmed(*head.origin))) {
        return error_reply(403, "origin_not_allowed", "Origin", "must be absent or local");
    }
    if (!head.authorized) {
        auto reply = error_reply(401, "invalid_token", "",
                                 "Authorization: Bearer or X-API-Key must have a token of this "
                                 "listener's token_file");
        reply.challenge = true;
        return reply;
    }
    if (auto refused = refused_path(head)) return refused;
    switch (head.route.target) {
        case HttpTarget::event: return refused_event(head);
        case HttpTarget::batch: return refused_batch(head);
        case HttpTarget::workspace_status:
        case HttpTarget::unknown: break;
    }
    return std::nullopt;
}

int rejection_status(RejectReason reason) noexcept {
    return reason == RejectReason::too_large ? 413 : 400;
}

HttpReply event_reply(const Offered& offered, Settled settled, const PlanFields& plan) {
    switch (offered.admission) {
        case Admission::rejected:
            return error_reply(rejection_status(offered.reject), to_string(offered.reject),
                               offered.field, offered.message);
        case Admission::shed:
            if (offered.shed == ShedReason::rate_limited) return over_rate(offered);
            return not_confirmed(to_string(offered.shed), offered.id,
                                 "not accepted; send it again");
        case Admission::accepted:
        case Admission::duplicate: break;
    }
    switch (settled) {
        case Settled::durable:
            return accepted(offered, plan, offered.admission == Admission::duplicate);
        case Settled::struck: return accepted(offered, plan, true);
        case Settled::given_up:
            return not_confirmed("given_up", offered.id,
                                 "the event could not be stored; send it again");
        case Settled::timed_out: break;
    }
    return not_confirmed("not_confirmed", offered.id,
                         "not durable yet; sending the same externalRequestId again is safe");
}

HttpReply mirrored(HttpReply reply, const std::string& id, const PlanFields& plan,
                   const UpstreamRefusal& refusal, TimePoint now) {
    using Kind = UpstreamRefusal::Kind;
    if (reply.status != 200 || refusal.kind == Kind::none) return reply;
    auto fields = plan;
    std::string_view reason = "rate_limited";
    if (refusal.kind == Kind::plan_limit) {
        reason = "plan_limit_reached";
        fields.telemetry_paused = fields.plan_limit_reached = true;
    } else if (refusal.kind == Kind::budget) {
        reason = "budget_exceeded";
        fields.budget_exceeded = true;
    }
    const bool throttled = refusal.kind == Kind::throttled;
    HttpReply mirror;
    mirror.status = throttled ? 429 : 402;
    mirror.body = plan_body(id, reason, fields, reply.body.ends_with(kDuplicate));
    if (throttled) {
        const auto left = std::chrono::ceil<seconds>(refusal.retry_at - now).count();
        mirror.retry_after = static_cast<std::uint64_t>(std::max<std::int64_t>(left, 1));
    }
    return mirror;
}

std::string serialize(const HttpReply& reply, bool keep_alive, bool head_only) {
    return fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}"
        "Connection: {}\r\n\r\n{}",
        reply.status, status_text(reply.status), reply.body.size(), extra_headers(reply),
        keep_alive ? "keep-alive" : "close", head_only ? "" : reply.body);
}

}  // namespace opsrelay::listen
