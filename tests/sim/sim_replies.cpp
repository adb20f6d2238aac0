#include "sim/sim_replies.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <utility>

namespace opsrelay::sim {

using forward::Reply;

namespace {

WallTime whole_seconds(WallTime time) { return std::chrono::floor<seconds>(time); }

std::tm utc(WallTime time) {
    return fmt::gmtime(static_cast<std::time_t>(
        std::chrono::duration_cast<seconds>(time.time_since_epoch()).count()));
}

std::string imf_fixdate(WallTime time) {
    return fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT", utc(time));
}

std::string http_date(RetryForm form, WallTime time) {
    switch (form) {
        case RetryForm::rfc850: return fmt::format("{:%A, %d-%b-%y %H:%M:%S} GMT", utc(time));
        case RetryForm::asctime: return fmt::format("{:%a %b %e %H:%M:%S %Y}", utc(time));
        case RetryForm::imf_fixdate:
        case RetryForm::seconds:
        case RetryForm::absent: break;
    }
    return imf_fixdate(time);
}

std::string period(const char* name, std::optional<WallTime> end) {
    if (!end) return {};
    return fmt::format(R"("{}":"{:%Y-%m-%dT%H:%M:%S}Z",)", name, utc(*end));
}

const char* text(bool value) { return value ? "true" : "false"; }

}  // namespace

Reply http(int status, std::string body) {
    Reply reply;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
}

Reply broken(forward::Transport transport) {
    Reply reply;
    reply.transport = transport;
    reply.error = "simulated";
    return reply;
}

Reply accepted() {
    return http(200, R"({"ok":true,"planTier":"Pro","warnings":[],"reason":null})");
}

Reply plan_limited() {
    return http(402, R"({"ok":false,"reason":"plan_limit_reached","telemetryPaused":true,)"
                     R"("isPlanLimitReached":true})");
}

Reply ok_false(std::string_view reason) {
    return http(200, fmt::format(R"({{"ok":false,"reason":"{}"}})", reason));
}

Reply workspace_reply(const Workspace& workspace) {
    const auto* const paused = text(workspace.paused);
    const auto* const exceeded = text(workspace.budget_period_end.has_value());
    return http(
        200, fmt::format(R"({{"telemetryPaused":{},"isPlanLimitReached":{},)"
                         R"("providerCallsContinue":true,"isBudgetWarning":false,)"
                         R"("isBudgetExceeded":{},"plan":{{{}"planTier":"pro"}},)"
                         R"("budget":{{"daily":{{{}"isExceeded":{}}}}}}})",
                         paused, paused, exceeded, period("periodEnd", workspace.plan_period_end),
                         period("periodEnd", workspace.budget_period_end), exceeded));
}

milliseconds put_retry_after(Reply& reply, RetryForm form, seconds wait, seconds skew,
                             WallTime our_wall, Rng& rng) {
    if (form == RetryForm::absent) return milliseconds{0};
    const auto server_wall = whole_seconds(our_wall + skew);
    const bool with_date = skew != seconds{0} || rng.chance(500);
    if (with_date) reply.date = imf_fixdate(server_wall);
    if (form == RetryForm::seconds) {
        reply.retry_after = std::to_string(wait.count());
        return wait;
    }
    const auto until = server_wall + wait;
    reply.retry_after = http_date(form, until);
    if (with_date) return wait;
    return std::chrono::floor<milliseconds>(std::max(until, our_wall) - our_wall);
}

}  // namespace opsrelay::sim
