#include "upstream/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/json_text.h"
#include "upstream/batch.h"
#include "upstream/catalog.h"
#include "upstream/control.h"
#include "upstream/decode.h"
#include "upstream/fault_replies.h"
#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

/// Without the query, runs of slashes made one (clients join base and path carelessly).
std::string path_of(std::string_view target) {
    std::string path;
    for (const char c : target.substr(0, target.find('?'))) {
        if (c != '/' || path.empty() || path.back() != '/') path += c;
    }
    return path;
}

struct Parameter {
    std::string_view key;
    std::string_view value;
};
std::vector<Parameter> query_of(std::string_view target) {
    std::vector<Parameter> parameters;
    const auto mark = target.find('?');
    auto query = mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1);
    while (!query.empty()) {
        const auto part = query.substr(0, query.find('&'));
        query.remove_prefix(std::min(query.size(), part.size() + 1));
        const auto equals = std::min(part.find('='), part.size());
        parameters.push_back(
            {part.substr(0, equals), part.substr(std::min(equals + 1, part.size()))});
    }
    return parameters;
}

Reply json_reply(int status, std::string body) {
    Reply reply;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
}

Reply refusal(int status, std::string_view reason) {
    return json_reply(status, refusal_json(reason));
}

Reply wrong_method(std::string_view allowed) {
    auto reply = refusal(405, "method_not_allowed");
    reply.extra_headers = fmt::format("Allow: {}\r\n", allowed);
    return reply;
}

bool is_identity(std::string_view coding) { return coding.empty() || lower(coding) == "identity"; }

std::optional<RetryForm> retry_form(ThrottleHint hint) {
    switch (hint) {
        case ThrottleHint::seconds: return RetryForm::seconds;
        case ThrottleHint::imf_fixdate: return RetryForm::imf_fixdate;
        case ThrottleHint::rfc850: return RetryForm::rfc850;
        case ThrottleHint::asctime: return RetryForm::asctime;
        case ThrottleHint::absent: break;
    }
    return std::nullopt;
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

std::string html_page(std::string_view title) {
    return fmt::format(
        "<!DOCTYPE html>\n<html><head><title>{0}</title></head>"
        "<body><h1>{0}</h1></body></html>\n",
        title);
}

const std::array<Service::Route, 8> Service::kRoutes{{
    {"/v1/ingest/llm-request", "POST", &Service::ingest_single},
    {"/v1/ingest/batch", "POST", &Service::ingest_batch},
    {"/v1/ingest/demo", "POST", &Service::make_demo_rows},
    {"/v1/ingest/demo-data", "DELETE", &Service::delete_demo_rows},
    {"/v1/ingest/test-data", "DELETE", &Service::delete_test_rows},
    {"/v1/diagnostics/workspace-status", "GET", &Service::workspace_status},
    {"/v1/settings/workspace-status", "GET", &Service::settings_status},
    {"/v1/public/pricing-models", "GET", &Service::pricing_models},
}};

Service::Service(const Settings& settings, const Clock& clock)
    : clock_(clock),
      behaviour_(settings.behaviour),
      workspace_({settings.rows_max, settings.row_bytes_max, settings.ids_only}, behaviour_),
      today_(day_of(now())) {
    faults_.set_script(settings.faults.script);
    faults_.set_rates(settings.faults.rates);
    faults_.set_seed(settings.seed);
    item_faults_.set_script(settings.item_faults.script);
    item_faults_.set_rates(settings.item_faults.rates);
    item_faults_.set_seed(settings.seed);
}

Reply Service::handle(Port port, const Request& request) {
    roll_over();
    return route(port, request, path_of(request.target));
}

void Service::roll_over() {
    const auto today = day_of(now());
    upstream::roll_over(behaviour_, today_, today);
    today_ = today;
}

Reply Service::route(Port port, const Request& request, std::string_view path) {
    if (port == Port::ingest) {
        for (const auto& one : kRoutes) {
            if (!path.ends_with(one.path)) continue;
            if (request.method != one.method) return wrong_method(one.method);
            return (this->*one.handler)(request);
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
    return refusal(404, "not_found");
}

bool Service::authorized(const Request& request) const noexcept {
    if (request.api_key.empty()) return false;
    const auto& keys = behaviour_.api_keys;
    return keys.empty() || std::find(keys.begin(), keys.end(), request.api_key) != keys.end();
}

bool Service::dashboard_authorized(const Request& request) const noexcept {
    constexpr std::string_view kBearer = "Bearer ";
    if (request.authorization.starts_with(kBearer) &&
        request.authorization.size() > kBearer.size()) {
        return true;
    }
    return behaviour_.dashboard_auth == DashboardAuth::api_key && authorized(request);
}

// --- Ingest ---

Reply Service::ingest_single(const Request& request) {
    return ingest(request, &Service::process_single);
}

Reply Service::ingest_batch(const Request& request) {
    ++batch_requests_;
    return ingest(request, &Service::process_batch);
}

Reply Service::ingest(const Request& request, Process process) {
    ++requests_;
    const auto fault = faults_.next();
    Reply reply;
    if (stores(fault)) reply = (this->*process)(request, fault);
    if (fault.kind != FaultKind::ok) {
        ++by_fault_[fault.name()];
        apply_fault(fault, behaviour_, workspace_.state(now()), now(), reply);
    }
    reply.delay += milliseconds{behaviour_.latency_ms};
    if (reply.delivery != Delivery::reset && reply.delivery != Delivery::silence) {
        ++by_status_[reply.status];
    }
    return reply;
}

std::optional<Reply> Service::refuse_early(const Request& request) {
    const auto& limit = behaviour_.rate_limit;
    if (limit.per_second > 0 && !bucket_.take(clock_.now(), limit.per_second, limit.burst)) {
        return throttled();
    }
    if (!authorized(request)) return refusal(401, "invalid_api_key");
    return std::nullopt;
}

Reply Service::throttled() {
    ++rate_limited_;
    const auto& limit = behaviour_.rate_limit;
    auto reply = json_reply(429, throttled_json("rate_limited"));
    if (const auto form = retry_form(limit.retry_after)) {
        const RetryAfter retry{*form, {}, bucket_.seconds_left(limit.per_second)};
        reply.extra_headers = fmt::format("Retry-After: {}\r\n", header_value(retry, now()));
    }
    return reply;
}

Reply Service::poisoned() const {
    const auto& poison = behaviour_.poison;
    auto reply = refusal(static_cast<int>(poison.status), "poison");
    if (poison.page) {
        reply.content_type = "text/html; charset=utf-8";
        reply.body = html_page("Blocked");
    }
    if (poison.retry_after_s > 0) {
        reply.extra_headers += fmt::format("Retry-After: {}\r\n", poison.retry_after_s);
    }
    return reply;
}

Reply Service::process_single(const Request& request, const Fault&) {
    if (auto refused = refuse_early(request)) return *std::move(refused);
    if (!is_identity(request.content_encoding)) {
        auto reply = refusal(415, "unsupported_media_type");
        reply.extra_headers = "Accept-Encoding: identity\r\n";
        return reply;
    }
    if (request.body.size() > static_cast<std::size_t>(behaviour_.body_bytes_max)) {
        return refusal(413, "payload_too_large");
    }
    const auto& poison = behaviour_.poison;
    if (!poison.text.empty() && request.body.find(poison.text) != std::string::npos) {
        return poisoned();
    }
    const auto outcome = workspace_.take(request.body, now());
    auto answer = answer_of(outcome, behaviour_, workspace_.state(now()));
    return json_reply(answer.status, std::move(answer.body));
}

Reply Service::process_batch(const Request& request, const Fault& fault) {
    if (auto refused = refuse_early(request)) return *std::move(refused);
    const auto form = batch_form(request.content_type);
    if (!form) return refusal(415, "unsupported_media_type");
    const auto& limits = behaviour_.batch;
    const auto body = decode(request.content_encoding, request.body,
                             static_cast<std::size_t>(limits.bytes_max), limits.codings);
    if (body.result == Decoding::unsupported) {
        auto reply = refusal(415, "unsupported_media_type");
        reply.extra_headers =
            fmt::format("Accept-Encoding: {}\r\n", accepted_codings(limits.codings));
        return reply;
    }
    if (body.result == Decoding::too_large) return refusal(413, "payload_too_large");
    const auto items_max = static_cast<std::size_t>(limits.items_max);
    const auto items = body.result == Decoding::corrupt
                           ? Error{Errc::refused, "not the Content-Encoding it claims"}
                           : split_batch(*form, body.bytes, items_max);
    if (!items) {
        return json_reply(static_cast<int>(behaviour_.validation_status),
                          invalid_json("validation_failed", {{"body", items.error().context}}));
    }
    if (items->size() > items_max) return refusal(413, "too_many_items");
    std::vector<ItemResult> results;
    results.reserve(items->size());
    for (const auto item : *items) results.push_back(process_item(item));
    if (fault.kind == FaultKind::results_reversed) {
        return json_reply(200, reversed_results_json(results));
    }
    if (fault.kind == FaultKind::results_missing) results.resize(results.size() / 2);
    return json_reply(200, results_json(results));
}

ItemResult Service::process_item(std::string_view item) {
    ++batch_items_;
    const auto fault = item_faults_.next();
    ItemResult result;
    if (stores(fault)) result = result_of(workspace_.take(item, now()), behaviour_);
    // As with single requests, a 409 that was refused for another reason keeps that.
    if (fault.kind != FaultKind::ok && (!stores(fault) || result.status == 200)) {
        result = fault_result(fault, behaviour_);
    }
    ++by_item_status_[result.status];
    return result;
}

// --- The other endpoints ---

Reply Service::make_demo_rows(const Request& request) {
    if (!authorized(request)) return refusal(401, "invalid_api_key");
    std::int64_t made = 0;
    while (made < behaviour_.demo_rows) {
        const auto outcome = workspace_.make_demo_row(now());
        if (outcome.verdict != Verdict::stored) {
            auto answer = answer_of(outcome, behaviour_, workspace_.state(now()));
            return json_reply(answer.status, std::move(answer.body));
        }
        ++made;
    }
    return json_reply(
        200,
        fmt::format(R"({{"ok":true,"createdRows":{},"dataMode":"demo","warnings":[]}})", made));
}

Reply Service::delete_demo_rows(const Request& request) {
    return delete_rows(request, DataMode::demo);
}
Reply Service::delete_test_rows(const Request& request) {
    return delete_rows(request, DataMode::test);
}

Reply Service::delete_rows(const Request& request, DataMode mode) {
    if (!dashboard_authorized(request)) return refusal(401, "invalid_session");
    const auto parameters = query_of(request.target);
    const bool known = parameters.size() == 1 && parameters[0].key == "scope" &&
                       (parameters[0].value == "workspace" || parameters[0].value == "mine");
    if (!known) {
        return json_reply(
            static_cast<int>(behaviour_.validation_status),
            invalid_json("validation_failed", {{"scope", "must be workspace or mine"}}));
    }
    if (parameters[0].value == "workspace" && behaviour_.role == Role::member) {
        return refusal(403, "forbidden");
    }
    return json_reply(200,
                      fmt::format(R"({{"ok":true,"deletedRows":{},"dataMode":"{}","warnings":[]}})",
                                  workspace_.remove(mode), to_string(mode)));
}

Reply Service::workspace_status(const Request& request) {
    ++status_requests_;
    switch (behaviour_.workspace_status) {
        case StatusReply::served: break;
        case StatusReply::missing: return refusal(404, "not_found");
        case StatusReply::broken: {
            auto reply = json_reply(500, html_page("500 Internal Server Error"));
            reply.content_type = "text/html; charset=utf-8";
            return reply;
        }
    }
    if (!authorized(request)) return refusal(401, "invalid_api_key");
    return json_reply(200, status_json(behaviour_, workspace_.state(now()), now()));
}

Reply Service::settings_status(const Request& request) {
    if (!dashboard_authorized(request)) return refusal(401, "invalid_session");
    return json_reply(200, status_json(behaviour_, workspace_.state(now()), now()));
}

Reply Service::pricing_models(const Request&) { return json_reply(200, pricing_models_json()); }

// --- Control and inspection ---

Reply Service::control(const Request& request) {
    if (request.method == "GET") {
        return json_reply(200, control_json(behaviour_, faults_, item_faults_));
    }
    if (request.method != "POST") return wrong_method("GET, POST");
    auto change = parse_control(request.body, behaviour_, clock_.wall_now());
    if (!change) {
        return json_reply(400, fmt::format("{{\"ok\":false,\"reason\":\"bad_control\","
                                           "\"message\":{}}}\n",
                                           json_string(change.error().context)));
    }
    behaviour_ = std::move(change->behaviour);
    today_ = day_of(now());
    if (change->script) faults_.set_script(std::move(*change->script));
    if (change->rates) faults_.set_rates(std::move(*change->rates));
    if (change->item_script) item_faults_.set_script(std::move(*change->item_script));
    if (change->item_rates) item_faults_.set_rates(std::move(*change->item_rates));
    if (change->seed) {
        faults_.set_seed(*change->seed);
        item_faults_.set_seed(*change->seed);
    }
    return json_reply(200, control_json(behaviour_, faults_, item_faults_));
}

Reply Service::rows_reply(const Request& request) {
    Reply reply;
    reply.delivery = Delivery::rows;
    for (const auto& [key, value] : query_of(request.target)) {
        std::size_t ids = 0;
        if (key == "ids" && read_count(value, ids)) {
            reply.rows.ids = ids != 0;
        } else if (!(key == "offset" && read_count(value, reply.rows.offset)) &&
                   !(key == "limit" && read_count(value, reply.rows.limit))) {
            return refusal(400, "query: allowed are ids=1, offset=N, limit=N");
        }
    }
    reply.content_type = reply.rows.ids ? "text/plain; charset=utf-8" : "application/x-ndjson";
    return reply;
}

Reply Service::refuse(int status, std::string_view reason) {
    ++connections.bad_requests;
    ++by_status_[status];
    auto reply = refusal(status, reason);
    reply.close = true;
    return reply;
}

std::string Service::stats_json() const {
    const auto& counts = workspace_.counts();
    const auto after = by_fault_.find("reset_after_commit");
    std::string out = fmt::format(
        R"({{"now":"{}","rows":{},"row_bytes":{},"requests":{},"repeated":{},)"
        R"("repeated_different":{},"missing_id":{},"invalid":{},"plan_blocked":{},)"
        R"("budget_blocked":{},"full":{},"rate_limited":{},"batch_requests":{},"batch_items":{},)"
        R"("plan_used":{},"reset_after_commit":{},"status_requests":{})",
        utc_text(now()), rows().size(), rows().bytes().count, requests_, counts.repeated,
        counts.repeated_different, counts.missing_id, counts.invalid, counts.plan_blocked,
        counts.budget_blocked, counts.full, rate_limited_, batch_requests_, batch_items_,
        workspace_.state(now()).used, after == by_fault_.end() ? 0 : after->second,
        status_requests_);
    append_counts(out, "by_status", by_status_);
    append_counts(out, "by_item_status", by_item_status_);
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
    batch_requests_ = 0;
    batch_items_ = 0;
    rate_limited_ = 0;
    status_requests_ = 0;
    by_status_.clear();
    by_item_status_.clear();
    by_fault_.clear();
    const auto open = connections.open;
    connections = {};
    connections.open = open;
    connections.peak = open;
}

}  // namespace opsrelay::upstream
