#include "listen/http_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/api_path.h"
#include "core/browser_rules.h"
#include "core/json_text.h"
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
    reply.retry_soon = true;
    return reply;
}

HttpReply accepted(const Offered& offered, const PlanFields& plan, bool duplicate) {
    HttpReply reply;
    reply.body = fmt::format(
        "{{\"ok\":true,\"externalRequestId\":{},\"reason\":null,\"telemetryPaused\":{},"
        "\"providerCallsContinue\":true,\"isPlanLimitReached\":{},\"budgetWarning\":{},"
        "\"budgetExceeded\":{},\"planTier\":{},\"warnings\":[]{}}}",
        json_string(offered.id), plan.telemetry_paused, plan.plan_limit_reached,
        plan.budget_warning, plan.budget_exceeded,
        plan.plan_tier.empty() ? "null" : json_string(plan.plan_tier),
        duplicate ? ",\"duplicate\":true" : "");
    return reply;
}

std::string_view status_text(int status) noexcept {
    switch (status) {
        case 200: return "OK";
        case 400: return "Bad Request";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 408: return "Request Timeout";
        case 413: return "Content Too Large";
        case 415: return "Unsupported Media Type";
        case 431: return "Request Header Fields Too Large";
        case 503: return "Service Unavailable";
        default: return "Error";
    }
}

bool is_identity(std::string_view content_encoding) noexcept {
    return same_text(trimmed(content_encoding), "identity");
}

std::optional<HttpReply> refused_event(const HttpHead& head) {
    if (head.content_type && !is_json(*head.content_type)) {
        return error_reply(415, "unsupported_media_type", "Content-Type",
                           "must be application/json");
    }
    if (head.content_encoding && !is_identity(*head.content_encoding)) {
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
    if (coding && !is_identity(*coding) && !is_gzip(*coding)) {
        return error_reply(415, "unsupported_media_type", "Content-Encoding",
                           "must be absent, identity or gzip");
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

HttpTarget target_of(std::string_view target) {
    target = target.substr(0, target.find_first_of("?#"));
    std::string path;
    path.reserve(target.size());
    for (const char c : target) {
        if (c != '/' || !path.ends_with('/')) path += c;
    }
    if (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (path.ends_with(kEventPath)) return HttpTarget::event;
    return path.ends_with(kBatchPath) ? HttpTarget::batch : HttpTarget::unknown;
}

bool same_text(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

bool is_gzip(std::string_view content_encoding) noexcept {
    return same_text(trimmed(content_encoding), "gzip");
}

std::optional<HttpReply> refusal(const HttpHead& head) {
    if (!head.unix_socket) {
        if (!head.host) return error_reply(400, "bad_request", "Host", "must be present");
        if (!is_local_host(trimmed(*head.host))) {
            return error_reply(403, "host_not_allowed", "Host",
                               "must be localhost, 127.0.0.1 or [::1]");
        }
    }
    if (head.origin && !is_local_origin(trimmed(*head.origin))) {
        return error_reply(403, "origin_not_allowed", "Origin", "must be absent or local");
    }
    const auto target = target_of(head.target);
    if (target == HttpTarget::unknown) {
        return error_reply(404, "not_found", "",
                           fmt::format("the paths here are {} and {}", kEventPath, kBatchPath));
    }
    if (head.method != "POST") {
        auto reply = error_reply(405, "method_not_allowed", "", "use POST");
        reply.allow_post = true;
        return reply;
    }
    return target == HttpTarget::batch ? refused_batch(head) : refused_event(head);
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

std::string serialize(const HttpReply& reply, bool keep_alive, bool head_only) {
    return fmt::format(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}{}"
        "Connection: {}\r\n\r\n{}",
        reply.status, status_text(reply.status), reply.body.size(),
        reply.allow_post ? "Allow: POST\r\n" : "", reply.retry_soon ? "Retry-After: 1\r\n" : "",
        keep_alive ? "keep-alive" : "close", head_only ? "" : reply.body);
}

}  // namespace opsrelay::listen
