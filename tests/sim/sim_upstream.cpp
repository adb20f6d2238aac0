#include "sim/sim_upstream.h"

#include <algorithm>
#include <utility>

namespace opsrelay::sim {

using forward::Reply;
using forward::Transport;

namespace {

Reply http(int status, std::string body) {
    Reply reply;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
}

Reply broken(Transport transport) {
    Reply reply;
    reply.transport = transport;
    reply.error = "simulated";
    return reply;
}

constexpr const char* kOk = R"({"ok":true,"planTier":"Pro","warnings":[],"reason":null})";
constexpr const char* kPlanLimit =
    R"({"ok":false,"reason":"plan_limit_reached","telemetryPaused":true,)"
    R"("isPlanLimitReached":true})";

}  // namespace

std::string id_of(std::string_view body) {
    constexpr std::string_view kKey = R"("externalRequestId":")";
    const auto at = body.find(kKey);
    if (at == std::string_view::npos) return {};
    const auto begin = at + kKey.size();
    return std::string(body.substr(begin, body.find('"', begin) - begin));
}

SimUpstream::SimUpstream(Clock& clock, Rng& rng, std::uint32_t enabled)
    : clock_(clock), rng_(rng), enabled_(enabled) {}

bool SimUpstream::draw(Fault fault, std::uint32_t per_mille) {
    if ((enabled_ >> index_of(fault) & 1U) == 0 || !rng_.chance(per_mille)) return false;
    ++played_[fault];
    return true;
}

bool SimUpstream::lasting(Fault fault, milliseconds low, milliseconds high) {
    const auto now = clock_.now();
    const auto running = until_.find(fault);
    if (running != until_.end() && now < running->second) {
        ++played_[fault];
        return true;
    }
    if (!draw(fault, 4)) return false;
    until_[fault] = now + rng_.between(low, high);
    return true;
}

void SimUpstream::store(const std::string& id) {
    if (!rows_.insert(id).second) {
        ++repeated_;
        const auto& before = deliveries_[id];
        const bool excused =
            before.reply_lost || before.crashes != crashes_ || excused_.contains(id);
        if (!excused) unexcused_.push_back(id);
    }
    deliveries_[id] = {.reply_lost = true, .crashes = crashes_};  // until the reply is given
}

asio::awaitable<Reply> SimUpstream::send(std::string_view body, TimePoint deadline) {
    ++requests_;
    concurrency_max_ = std::max(concurrency_max_, ++concurrency_);
    auto reply = co_await decide(id_of(body), deadline);
    --concurrency_;
    co_return reply;
}

bool SimUpstream::on_for_a_while(const std::string& id, Reply& reply) {
    if (lasting(Fault::outage, minutes{1}, hours{6})) {
        reply = broken(Transport::refused);
    } else if (lasting(Fault::unavailable, seconds{1}, minutes{30})) {
        reply = http(503, "");
        if (rng_.chance(500))
            reply.retry_after = std::to_string(rng_.between(std::uint64_t{0}, 300));
    } else if (lasting(Fault::unauthorized, minutes{1}, hours{2})) {
        reply = http(401, R"({"ok":false,"reason":"invalid_api_key"})");
    } else if (lasting(Fault::plan_limit, minutes{5}, hours{30})) {
        reply = http(402, kPlanLimit);
    } else if (lasting(Fault::budget_stop, minutes{5}, hours{5})) {
        reply = http(402, R"({"ok":false,"reason":"budget_exceeded","budgetExceeded":true})");
    } else if (lasting(Fault::web_page, minutes{1}, hours{1})) {
        reply = http(200, "<html>sign in</html>");
    } else if (lasting(Fault::refuse_everything, minutes{1}, hours{1})) {
        reply = http(400, R"({"ok":false,"reason":"validation_failed"})");
    } else if (id.find("poison") != std::string::npos && draw(Fault::poison, 1000)) {
        reply = http(400, R"({"ok":false,"reason":"validation_failed"})");
    } else {
        return false;
    }
    return true;
}

asio::awaitable<Reply> SimUpstream::decide(std::string id, TimePoint deadline) {
    auto pause = milliseconds{static_cast<std::int64_t>(rng_.between(std::uint64_t{1}, 20))};
    if (draw(Fault::latency, 300)) pause = rng_.between(milliseconds{20}, milliseconds{2000});
    co_await clock_.sleep_for(pause);
    Reply reply;
    if (on_for_a_while(id, reply)) co_return reply;
    if (draw(Fault::throttle, 20)) {
        reply = http(429, R"({"ok":false,"reason":"rate_limited"})");
        if (rng_.chance(700))
            reply.retry_after = std::to_string(rng_.between(std::uint64_t{0}, 90));
        co_return reply;
    }
    if (draw(Fault::reset_before, 30)) co_return broken(Transport::reset);
    if (draw(Fault::error_500, 30)) co_return http(500, "<html>oops</html>");
    if (draw(Fault::ok_false, 10)) co_return http(200, R"({"ok":false,"reason":"unheard_of"})");
    if (draw(Fault::hang_before, 5)) {
        co_await clock_.sleep_until(deadline);
        co_return broken(Transport::timeout);
    }
    co_return co_await lose_or_answer(id, deadline);
}

asio::awaitable<Reply> SimUpstream::lose_or_answer(const std::string& id, TimePoint deadline) {
    const bool repeat = rows_.count(id) != 0;
    store(id);
    if (draw(Fault::reset_after, 20)) co_return broken(Transport::reset);
    if (draw(Fault::hang_after, 5)) {
        co_await clock_.sleep_until(deadline);
        co_return broken(Transport::timeout);
    }
    deliveries_[id].reply_lost = false;
    if (repeat && draw(Fault::conflict_409, 500)) co_return http(409, R"({"ok":false})");
    co_return http(200, kOk);
}

asio::awaitable<Reply> SimUpstream::workspace_status(TimePoint) {
    co_await clock_.sleep_for(milliseconds{5});
    const auto limited = until_.find(Fault::plan_limit);
    const bool paused = limited != until_.end() && clock_.now() < limited->second;
    if (rng_.chance(50)) co_return broken(Transport::reset);
    co_return http(200, std::string(R"({"telemetryPaused":)") + (paused ? "true" : "false") +
                            R"(,"isPlanLimitReached":)" + (paused ? "true" : "false") +
                            R"(,"providerCallsContinue":true,"isBudgetWarning":false,)" +
                            R"("isBudgetExceeded":false,"plan":{"planTier":"pro"}})");
}

}  // namespace opsrelay::sim
