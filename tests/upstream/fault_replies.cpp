#include "upstream/fault_replies.h"

#include <fmt/format.h>

namespace opsrelay::upstream {

namespace {

constexpr milliseconds kPieceMs{100};
constexpr std::string_view kJson = "application/json";
constexpr std::string_view kHtml = "text/html; charset=utf-8";

/// Reasons for the bodies of plain status faults.
std::string_view reason_of(int status) {
    switch (status) {
        case 400:
        case 422: return "validation_failed";
        case 401: return "invalid_api_key";
        case 403: return "forbidden";
        case 404: return "not_found";
        case 405: return "method_not_allowed";
        case 408: return "request_timeout";
        case 409: return "duplicate_request";
        case 410: return "gone";
        case 413: return "payload_too_large";
        case 415: return "unsupported_media_type";
        case 425: return "too_early";
        case 429: return "rate_limited";
        case 500: return "internal_error";
        case 502: return "bad_gateway";
        case 503: return "unavailable";
        case 504: return "gateway_timeout";
        default: return "injected_fault";
    }
}

std::string reason_for(const Fault& fault) {
    return fault.reason.empty() ? std::string(reason_of(fault.status)) : fault.reason;
}

std::string status_body(const Fault& fault) {
    const auto reason = reason_for(fault);
    if (fault.status == 429) return throttled_json(reason);
    if (fault.status == 400 || fault.status == 422) {
        return invalid_json(reason, {{"body", "injected fault"}});
    }
    return refusal_json(reason);
}

void replace(Reply& reply, int status, std::string_view content_type, std::string body) {
    reply.status = status;
    reply.content_type = content_type;
    reply.body = std::move(body);
}

/// Faults that are a fixed reply. Those of success keep what a refused request was answered.
void answer_fixed(const Fault& fault, const Behaviour& behaviour, const PlanAndBudget& state,
                  Reply& reply) {
    switch (fault.kind) {
        case FaultKind::status:
            if (stores(fault) && reply.status != 200) return;
            return replace(reply, fault.status, kJson, status_body(fault));
        case FaultKind::plan_402:
            return replace(reply, 402, kJson, plan_limit_json(behaviour, state));
        case FaultKind::budget_402:
            return replace(reply, 402, kJson, budget_stop_json(behaviour, fault.reason));
        case FaultKind::html_500:
            return replace(reply, 500, kHtml, html_page("500 Internal Server Error"));
        case FaultKind::empty_503: return replace(reply, 503, {}, {});
        case FaultKind::html_200:
            return replace(reply, 200, kHtml, html_page("Sign in to continue"));
        case FaultKind::text_200: return replace(reply, 200, "text/plain", "OK\n");
        case FaultKind::ok_false_200: return replace(reply, 200, kJson, status_body(fault));
        case FaultKind::empty_200:
        case FaultKind::empty_204:
            if (reply.status != 200) return;
            return replace(reply, fault.kind == FaultKind::empty_204 ? 204 : 200, {}, {});
        case FaultKind::found_302:
            replace(reply, 302, kHtml, html_page("302 Found"));
            reply.extra_headers += "Location: /elsewhere\r\n";
            return;
        case FaultKind::ok:
        case FaultKind::reset_before:
        case FaultKind::reset_after_commit:
        case FaultKind::stall:
        case FaultKind::stall_after_commit:
        case FaultKind::slow_body:
        case FaultKind::truncated_body:
        case FaultKind::close_after:
        case FaultKind::latency:
        case FaultKind::results_reversed:
        case FaultKind::results_missing: return;  // not a fixed reply
    }
}

/// Faults of the connection and of time; true: `fault` is one.
bool apply_delivery(const Fault& fault, const Behaviour& behaviour, Reply& reply) {
    switch (fault.kind) {
        case FaultKind::reset_before:
        case FaultKind::reset_after_commit: reply.delivery = Delivery::reset; return true;
        case FaultKind::stall:
        case FaultKind::stall_after_commit:
            reply.delivery = Delivery::silence;
            reply.pause = fault.ms.count() > 0 ? fault.ms : milliseconds{behaviour.stall_ms};
            return true;
        case FaultKind::slow_body:
            reply.delivery = Delivery::pieces;
            reply.pause = fault.ms.count() > 0 ? fault.ms : kPieceMs;
            return true;
        case FaultKind::truncated_body: reply.delivery = Delivery::truncated; return true;
        case FaultKind::close_after: reply.close = true; return true;
        case FaultKind::latency: reply.delay += fault.ms; return true;
        case FaultKind::results_reversed:
        case FaultKind::results_missing:  // of batches: the service has written the results so
        case FaultKind::ok: return true;
        case FaultKind::status:
        case FaultKind::plan_402:
        case FaultKind::budget_402:
        case FaultKind::html_500:
        case FaultKind::empty_503:
        case FaultKind::html_200:
        case FaultKind::text_200:
        case FaultKind::ok_false_200:
        case FaultKind::empty_200:
        case FaultKind::empty_204:
        case FaultKind::found_302: return false;
    }
    return false;
}

}  // namespace

bool stores(const Fault& fault) {
    switch (fault.kind) {
        case FaultKind::ok:
        case FaultKind::empty_200:
        case FaultKind::empty_204:
        case FaultKind::reset_after_commit:
        case FaultKind::stall_after_commit:
        case FaultKind::slow_body:
        case FaultKind::truncated_body:
        case FaultKind::close_after:
        case FaultKind::latency:
        case FaultKind::results_reversed:
        case FaultKind::results_missing: return true;
        case FaultKind::status: return fault.status == 409;
        case FaultKind::plan_402:
        case FaultKind::budget_402:
        case FaultKind::html_500:
        case FaultKind::empty_503:
        case FaultKind::html_200:
        case FaultKind::text_200:
        case FaultKind::ok_false_200:
        case FaultKind::found_302:
        case FaultKind::reset_before:
        case FaultKind::stall: return false;
    }
    return false;
}

void apply_fault(const Fault& fault, const Behaviour& behaviour, const PlanAndBudget& state,
                 WallTime now, Reply& reply) {
    if (!apply_delivery(fault, behaviour, reply)) answer_fixed(fault, behaviour, state, reply);
    if (!fault.retry_after) return;
    reply.extra_headers +=
        fmt::format("Retry-After: {}\r\n", header_value(*fault.retry_after, now));
}

ItemResult fault_result(const Fault& fault, const Behaviour& behaviour) {
    if (fault.kind == FaultKind::plan_402) return {402, "plan_limit_reached"};
    if (fault.kind == FaultKind::budget_402) {
        return {402, fault.reason.empty() ? behaviour.budget.reason : fault.reason};
    }
    return {fault.status, reason_for(fault)};
}

}  // namespace opsrelay::upstream
