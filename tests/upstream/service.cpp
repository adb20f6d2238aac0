#include "upstream/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

constexpr std::string_view kIngestPath = "/v1/ingest/llm-request";
constexpr std::string_view kStatusPath = "/v1/diagnostics/workspace-status";
constexpr std::string_view kPricingPath = "/v1/public/pricing-models";
constexpr milliseconds kPieceMs{100};

/// Without the query, runs of slashes made one (clients join base and path carelessly).
std::string path_of(std::string_view target) {
    std::string path;
    for (const char c : target.substr(0, target.find('?'))) {
        if (c != '/' || path.empty() || path.back() != '/') path += c;
    }
    return path;
}

Reply json_reply(int status, std::string body) {
    Reply reply;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
}

Reply wrong_method(std::string_view allowed) {
    auto reply = json_reply(405, refusal_json("method_not_allowed"));
    reply.extra_headers = fmt::format("Allow: {}\r\n", allowed);
    return reply;
}

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

std::string_view or_default(const std::string& text, std::string_view fallback) {
    return text.empty() ? fallback : std::string_view(text);
}

std::string status_body(int status, std::string_view reason) {
    if (status == 429) return throttled_json(reason);
    if (status == 400 || status == 422) {
        std::string out = R"({"ok":false,"reason":)";
        append_quoted(out, reason);
        return out + R"(,"errors":[{"field":"body","message":"injected fault"}],"warnings":[]})";
    }
    return refusal_json(reason);
}

/// True when the request is processed although a fault is due.
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
        case FaultKind::latency: return true;
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

void replace(Reply& reply, int status, std::string_view content_type, std::string body) {
    reply.status = status;
    reply.content_type = content_type;
    reply.body = std::move(body);
}

bool read_count(std::string_view text, std::size_t& out) {
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
    return ec == std::errc{} && end == text.data() + text.size();
}

template <typename Map>
void append_counts(std::string& out, std::string_view name, const Map& counts) {
    out += fmt::format(",\"{}\":{{", name);
    for (const auto& [key, count] : counts) {
        if (out.back() != '{') out += ',';
        out += fmt::format("\"{}\":{}", key, count);
    }
    out += '}';
}

}  // namespace

Service::Service(const Settings& settings, const Clock& clock)
    : clock_(clock),
      behaviour_(settings.behaviour),
      workspace_({settings.rows_max, settings.row_bytes_max, settings.ids_only}, behaviour_) {
    faults_.set_script(settings.script);
    faults_.set_rates(settings.rates);
    faults_.set_seed(settings.seed);
}

Reply Service::handle(Port port, const Request& request) {
    return route(port, request, path_of(request.target));
}

Reply Service::route(Port port, const Request& request, std::string_view path) {
    if (port == Port::ingest) {
        if (path.ends_with(kIngestPath)) {
            return request.method == "POST" ? ingest(request) : wrong_method("POST");
        }
        if (path.ends_with(kStatusPath)) {
            return request.method == "GET" ? workspace_status(request) : wrong_method("GET");
        }
        if (path.ends_with(kPricingPath)) {
            return request.method == "GET" ? json_reply(200, pricing_models_json())
                                           : wrong_method("GET");
        }
    }
    return inspect(port, request, path);
}

Reply Service::inspect(Port port, const Request& request, std::string_view path) {
    if (path == "/stats") {
        return request.method == "GET" ? json_reply(200, stats_json()) : wrong_method("GET");
    }
    if (path == "/rows" && request.method == "DELETE") {
        reset();
        return json_reply(200, stats_json());
    }
    if (path == "/rows") {
        return request.method == "GET" ? rows_reply(request) : wrong_method("GET, DELETE");
    }
    if (path == "/control" && port == Port::control) return control(request);
    return json_reply(404, refusal_json("not_found"));
}

bool Service::authorized(const Request& request) const noexcept {
    if (request.api_key.empty()) return false;
    if (behaviour_.api_keys.empty()) return true;
    for (const auto& key : behaviour_.api_keys) {
        if (key == request.api_key) return true;
    }
    return false;
}

Reply Service::process(const Request& request) {
    if (!authorized(request)) return json_reply(401, refusal_json("invalid_api_key"));
    auto answer = workspace_.ingest(request.body);
    return json_reply(answer.status, std::move(answer.body));
}

Reply Service::ingest(const Request& request) {
    ++requests_;
    const auto fault = faults_.next();
    Reply reply;
    if (fault.kind == FaultKind::ok) {
        reply = process(request);
    } else {
        ++by_fault_[fault.name()];
        apply(fault, request, reply);
    }
    reply.delay += behaviour_.latency;
    if (reply.delivery != Delivery::reset && reply.delivery != Delivery::silence) {
        ++by_status_[reply.status];
    }
    return reply;
}

void Service::apply(const Fault& fault, const Request& request, Reply& reply) {
    if (stores(fault)) reply = process(request);
    switch (fault.kind) {
        case FaultKind::reset_before:
        case FaultKind::reset_after_commit: reply.delivery = Delivery::reset; break;
        case FaultKind::stall:
        case FaultKind::stall_after_commit:
            reply.delivery = Delivery::silence;
            reply.pause = fault.ms.count() > 0 ? fault.ms : behaviour_.stall;
            break;
        case FaultKind::slow_body:
            reply.delivery = Delivery::pieces;
            reply.pause = fault.ms.count() > 0 ? fault.ms : kPieceMs;
            break;
        case FaultKind::truncated_body: reply.delivery = Delivery::truncated; break;
        case FaultKind::close_after: reply.close = true; break;
        case FaultKind::latency: reply.delay += fault.ms; break;
        case FaultKind::ok: break;
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
        case FaultKind::found_302: answer_fixed(fault, reply); break;
    }
    if (fault.retry_after) {
        reply.extra_headers +=
            fmt::format("Retry-After: {}\r\n", header_value(*fault.retry_after, now()));
    }
}

void Service::answer_fixed(const Fault& fault, Reply& reply) {
    constexpr std::string_view kJson = "application/json";
    constexpr std::string_view kHtml = "text/html; charset=utf-8";
    constexpr std::string_view kPage =
        "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n";
    switch (fault.kind) {
        case FaultKind::status:
            if (stores(fault) && reply.status != 200) return;  // it was refused, not repeated
            return replace(
                reply, fault.status, kJson,
                status_body(fault.status, or_default(fault.reason, reason_of(fault.status))));
        case FaultKind::plan_402: return replace(reply, 402, kJson, workspace_.plan_limit_json());
        case FaultKind::budget_402:
            return replace(reply, 402, kJson, workspace_.budget_stop_json(fault.reason));
        case FaultKind::html_500:
            return replace(reply, 500, kHtml, fmt::format(kPage, "500 Internal Server Error"));
        case FaultKind::empty_503: return replace(reply, 503, {}, {});
        case FaultKind::html_200:
            return replace(reply, 200, kHtml, fmt::format(kPage, "Sign in to continue"));
        case FaultKind::text_200: return replace(reply, 200, "text/plain", "OK\n");
        case FaultKind::ok_false_200:
            return replace(reply, 200, kJson,
                           refusal_json(or_default(fault.reason, "injected_fault")));
        case FaultKind::empty_200:
            if (reply.status == 200) replace(reply, 200, {}, {});
            return;
        case FaultKind::empty_204:
            if (reply.status == 200) replace(reply, 204, {}, {});
            return;
        case FaultKind::found_302:
            replace(reply, 302, kHtml, fmt::format(kPage, "302 Found"));
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
        case FaultKind::latency: return;  // apply() has dealt with these
    }
}

Reply Service::workspace_status(const Request& request) {
    ++status_requests_;
    if (!authorized(request)) return json_reply(401, refusal_json("invalid_api_key"));
    return json_reply(200, workspace_.status_json(now()));
}

Reply Service::control(const Request& request) {
    if (request.method == "GET") return json_reply(200, control_json(behaviour_, faults_));
    if (request.method != "POST") return wrong_method("GET, POST");
    auto change = parse_control(request.body, behaviour_);
    if (!change) {
        std::string out = R"({"ok":false,"reason":"bad_control","message":)";
        append_quoted(out, change.error().context);
        return json_reply(400, out + "}\n");
    }
    behaviour_ = std::move(change->behaviour);
    if (change->script) faults_.set_script(std::move(*change->script));
    if (change->rates) faults_.set_rates(std::move(*change->rates));
    if (change->seed) faults_.set_seed(*change->seed);
    return json_reply(200, control_json(behaviour_, faults_));
}

Reply Service::rows_reply(const Request& request) {
    Reply reply;
    reply.delivery = Delivery::rows;
    const auto mark = request.target.find('?');
    auto query =
        mark == std::string_view::npos ? std::string_view{} : request.target.substr(mark + 1);
    while (!query.empty()) {
        const auto part = query.substr(0, query.find('&'));
        query.remove_prefix(std::min(query.size(), part.size() + 1));
        const auto equals = std::min(part.find('='), part.size());
        const auto key = part.substr(0, equals);
        const auto value = part.substr(std::min(equals + 1, part.size()));
        std::size_t ids = 0;
        if (key == "ids" && read_count(value, ids)) {
            reply.rows.ids = ids != 0;
        } else if (!(key == "offset" && read_count(value, reply.rows.offset)) &&
                   !(key == "limit" && read_count(value, reply.rows.limit))) {
            return json_reply(400, refusal_json("query: allowed are ids=1, offset=N, limit=N"));
        }
    }
    reply.content_type = reply.rows.ids ? "text/plain; charset=utf-8" : "application/x-ndjson";
    return reply;
}

Reply Service::refuse(int status, std::string_view reason) {
    ++connections.bad_requests;
    ++by_status_[status];
    auto reply = json_reply(status, refusal_json(reason));
    reply.close = true;
    return reply;
}

std::string Service::stats_json() const {
    const auto& counts = workspace_.counts();
    const auto after = by_fault_.find("reset_after_commit");
    std::string out = fmt::format(
        R"({{"rows":{},"row_bytes":{},"requests":{},"repeated":{},"repeated_different":{},)"
        R"("missing_id":{},"invalid":{},"plan_blocked":{},"budget_blocked":{},"full":{},)"
        R"("plan_used":{},"reset_after_commit":{},"status_requests":{})",
        rows().size(), rows().bytes().count, requests_, counts.repeated, counts.repeated_different,
        counts.missing_id, counts.invalid, counts.plan_blocked, counts.budget_blocked, counts.full,
        workspace_.plan_used(), after == by_fault_.end() ? 0 : after->second, status_requests_);
    append_counts(out, "by_status", by_status_);
    append_counts(out, "by_fault", by_fault_);
    out += fmt::format(R"(,"connections":{{"open":{},"peak":{},"total":{},"refused":{},)"
                       R"("tls_failures":{},"bad_requests":{}}}}})",
                       connections.open, connections.peak, connections.total, connections.refused,
                       connections.tls_failures, connections.bad_requests);
    return out + "\n";
}

void Service::reset() {
    workspace_.clear();
    requests_ = 0;
    status_requests_ = 0;
    by_status_.clear();
    by_fault_.clear();
    const auto open = connections.open;
    connections = {};
    connections.open = open;
    connections.peak = open;
}

}  // namespace opsrelay::upstream
