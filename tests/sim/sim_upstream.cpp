#include "sim/sim_upstream.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "forward/http_date.h"
#include "forward/retry.h"

namespace opsrelay::sim {

using forward::Reply;
using forward::Transport;

namespace {

constexpr const char* kRefusal = R"({"ok":false,"reason":"validation_failed"})";
// A breaker is open by then, whatever the lane was doing, and nothing old is in flight.
constexpr std::uint64_t kFailuresOfOutage = 20;
constexpr minutes kOutageAge{1};
// Probes of an outage: those of the first backoffs, then one in 30 s on average.
constexpr std::uint64_t kFirstProbes = 40;
constexpr seconds kProbeGapLeast{5};

bool answers(const Reply& reply) {
    if (reply.transport != Transport::ok) return false;
    const auto status = reply.status;
    return status == 409 || status == 400 || status == 413 || status == 204 ||
           (status == 200 && reply.body.find(R"("ok":true)") != std::string::npos) ||
           (status == 200 && reply.body == kRefusal);
}

WallTime end_of_month(WallTime now) {
    const std::chrono::year_month_day date{std::chrono::floor<std::chrono::days>(now)};
    const auto next = date.year() / date.month() + std::chrono::months{1};
    return std::chrono::sys_days{next / 1} - seconds{1};
}

asio::awaitable<bool> cut_off() {
    const auto state = co_await asio::this_coro::cancellation_state;
    co_return state.cancelled() != asio::cancellation_type::none;
}

}  // namespace

std::string Coverage::missing() const {
    std::string names;
    const auto collect = [&names](const auto& seen, const auto& table) {
        for (std::size_t i = 0; i < table.size(); ++i) {
            if (!seen.test(i)) names += fmt::format(" {}", table.at(i).name);
        }
    };
    collect(faults, kFaults);
    collect(retry_forms, kRetryForms);
    collect(marks, kMarks);
    return names;
}

std::string id_of(std::string_view body) {
    constexpr std::string_view kKey = R"("externalRequestId":")";
    const auto at = body.find(kKey);
    if (at == std::string_view::npos) return {};
    const auto begin = at + kKey.size();
    return std::string(body.substr(begin, body.find('"', begin) - begin));
}

SimUpstream::SimUpstream(Clock& clock, Rng& rng, std::uint64_t enabled, bool long_run)
    : clock_(clock),
      rng_(rng),
      enabled_(enabled),
      long_run_(long_run),
      skew_(draw(Fault::clock_skew, 1000)
                ? seconds{static_cast<std::int64_t>(rng.between(1, 14'400)) - 7200}
                : seconds{0}) {}

bool SimUpstream::draw(Fault fault, std::uint32_t per_mille) {
    if ((enabled_ >> index_of(fault) & 1U) == 0 || !rng_.chance(per_mille)) return false;
    coverage_.note(fault);
    return true;
}

bool SimUpstream::lasts(Fault fault) const {
    const auto running = until_.find(fault);
    return running != until_.end() && clock_.now() < running->second;
}

bool SimUpstream::lasting(Fault fault, milliseconds low, milliseconds high) {
    if (lasts(fault)) return true;
    if (!draw(fault, 3)) return false;
    until_[fault] = clock_.now() + rng_.between(low, long_run_ ? high * 12 : high);
    return true;
}

void SimUpstream::store(const std::string& id) {
    if (!rows_.insert(id).second) {
        ++repeated_;
        if (!may_repeat_[id] && !excused_.contains(id))
            violate("sent again although its delivery was known: " + id);
    }
    may_repeat_[id] = true;  // until the reply is given
}

void SimUpstream::note_restart(const std::vector<std::string>& unsettled) {
    for (auto& [id, repeatable] : may_repeat_) repeatable = false;
    for (const auto& id : unsettled) may_repeat_[id] = true;
    watching_ = true;
    failures_.clear();
    forget_manners();
}

SimUpstream::Turn SimUpstream::begin(const std::string& id) {
    watch_request(id);
    const Turn turn{++requests_, concurrency_ == 0};
    last_begun_ = turn.number;
    concurrency_max_ = std::max(concurrency_max_, ++concurrency_);
    last_wait_ = milliseconds{0};
    return turn;
}

void SimUpstream::end(const Turn& turn, const Reply& reply) {
    const bool throttled = reply.status == 429 && last_wait_ > milliseconds{0};
    if (!turn.alone || last_begun_ != turn.number || !throttled) return;
    quiet_until_ = clock_.now() + std::min(last_wait_, forward::kRetryAfterMax);
}

asio::awaitable<Reply> SimUpstream::send(std::string_view body, TimePoint deadline) {
    const auto id = id_of(body);
    const auto turn = begin(id);
    auto reply = co_await decide(id, deadline);
    --concurrency_;
    watch_reply(id, reply);
    end(turn, reply);
    co_return reply;
}

asio::awaitable<Reply> SimUpstream::send_batch(std::span<const std::string_view> events,
                                               TimePoint deadline) {
    std::vector<std::string> ids;
    for (const auto event : events) ids.push_back(id_of(event));
    if (ids.size() > 1) coverage_.note(Mark::batches);
    const auto turn = begin(ids.front());
    auto reply = co_await decide_batch(ids, deadline);
    --concurrency_;
    watch_batch_reply(ids, reply);
    end(turn, reply);
    co_return reply;
}

bool SimUpstream::unreachable_for_a_while(Reply& reply) {
    if (lasting(Fault::outage, minutes{1}, hours{6})) {
        reply = broken(Transport::refused);
    } else if (lasting(Fault::no_address, seconds{10}, hours{1})) {
        reply = broken(Transport::resolve);
    } else if (lasting(Fault::bad_certificate, seconds{10}, hours{1})) {
        reply = broken(Transport::tls);
    } else if (lasting(Fault::unavailable, seconds{1}, minutes{30})) {
        reply = http(503, "");
        put_wait(reply, seconds{static_cast<std::int64_t>(rng_.between(0, 300))});
    } else {
        return false;
    }
    return true;
}

bool SimUpstream::refusing_for_a_while(Reply& reply) {
    if (lasting(Fault::unauthorized, minutes{1}, hours{2})) {
        reply = http(401, R"({"ok":false,"reason":"invalid_api_key"})");
    } else if (lasting(Fault::forbidden, minutes{1}, hours{2})) {
        reply = http(403, "");
    } else if (lasting(Fault::not_found, minutes{1}, hours{2})) {
        reply = http(404, "<html>no such page</html>");
    } else if (lasting(Fault::redirect, minutes{1}, hours{1})) {
        reply = http(302, "");
    } else if (lasting(Fault::plan_limit, minutes{5}, hours{30})) {
        reply = plan_limited();
    } else if (lasting(Fault::budget_stop, minutes{5}, hours{5})) {
        reply = http(402, R"({"ok":false,"reason":"budget_exceeded","budgetExceeded":true})");
    } else if (lasting(Fault::web_page, minutes{1}, hours{1})) {
        reply = http(200, "<html>sign in</html>");
    } else if (lasting(Fault::ok_false_paused, minutes{5}, hours{2})) {
        reply = ok_false("plan_limit_reached");
    } else if (lasting(Fault::ok_false_key, minutes{1}, hours{1})) {
        reply = ok_false("invalid_api_key");
    } else if (month_is_over(reply)) {
        return true;
    } else if (lasting(Fault::refuse_everything, minutes{1}, hours{1})) {
        reply = http(400, kRefusal);
    } else {
        return false;
    }
    return true;
}

// The plan's requests are used up; the next month brings new ones.
bool SimUpstream::month_is_over(Reply& reply) {
    if (!lasts(Fault::month_end)) {
        if (!draw(Fault::month_end, 3)) return false;
        const auto now = clock_.wall_now();
        month_end_ = end_of_month(now);
        const auto left = month_end_ - now;
        if (left > std::chrono::days{long_run_ ? 31 : 1}) return false;
        until_[Fault::month_end] = clock_.now() + left + seconds{1};
    }
    reply = plan_limited();
    return true;
}

bool SimUpstream::refuses_event(const std::string& id, Reply& reply) {
    const auto has = [&id](const char* kind) { return id.find(kind) != std::string::npos; };
    if (has("poison") && draw(Fault::poison, 1000)) {
        reply = http(400, kRefusal);
    } else if (has("large") && draw(Fault::too_large, 1000)) {
        reply = http(413, "");
    } else if (has("stuck") && draw(Fault::stuck, 1000)) {
        reply = http(500, "");
    } else if (has("stuck") && draw(Fault::filtered, 1000)) {
        reply = http(403, "<html>blocked</html>");
    } else if (has("poison") && draw(Fault::ok_false_refuse, 1000)) {
        reply = http(200, kRefusal);
    } else {
        return false;
    }
    return true;
}

void SimUpstream::put_wait(Reply& reply, seconds wait) {
    const auto form = kRetryForms.at(rng_.between(0, kRetryForms.size() - 1)).value;
    coverage_.note(form);
    last_wait_ = put_retry_after(reply, form, wait, skew_, clock_.wall_now(), rng_);
}

bool SimUpstream::fails_once(Reply& reply) {
    if (draw(Fault::throttle, 20)) {
        reply = http(429, R"({"ok":false,"reason":"rate_limited"})");
        put_wait(reply, seconds{static_cast<std::int64_t>(rng_.between(0, 90))});
    } else if (long_run_ && draw(Fault::far_future, 1)) {
        reply = http(429, "");
        put_wait(reply, std::chrono::days{90});
    } else if (draw(Fault::reset_before, 30)) {
        reply = broken(Transport::reset);
    } else if (draw(Fault::error_500, 30)) {
        reply = http(500, "<html>oops</html>");
    } else if (draw(Fault::request_timeout, 10)) {
        reply = http(408, "");
    } else if (draw(Fault::too_early, 10)) {
        reply = http(425, "");
    } else if (draw(Fault::ok_false, 10)) {
        reply = ok_false("unheard_of");
    } else if (draw(Fault::ok_false_throttle, 10)) {
        reply = ok_false("rate_limited");
    } else {
        return false;
    }
    return true;
}

asio::awaitable<bool> SimUpstream::arrive() {
    auto pause = milliseconds{static_cast<std::int64_t>(rng_.between(1, 20))};
    if (draw(Fault::latency, 300)) pause = rng_.between(milliseconds{20}, milliseconds{2000});
    co_await clock_.sleep_for(pause);
    const bool cancelled = co_await cut_off();
    co_return !cancelled;
}

asio::awaitable<Reply> SimUpstream::decide(std::string id, TimePoint deadline) {
    const bool arrived = co_await arrive();
    if (!arrived) {
        if (rng_.chance(500)) store(id);
        co_return broken(Transport::reset);
    }
    if (draw(Fault::unanswered, 20)) {
        if (rng_.chance(500)) store(id);
        co_return broken(Transport::unanswered);
    }
    Reply reply;
    if (unreachable_for_a_while(reply) || refusing_for_a_while(reply) || refuses_event(id, reply) ||
        fails_once(reply)) {
        co_return reply;
    }
    if (draw(Fault::hang_before, 5)) {
        co_await clock_.sleep_until(deadline);
        co_return broken(Transport::timeout);
    }
    co_return co_await lose_or_answer(id, deadline);
}

asio::awaitable<Reply> SimUpstream::decide_batch(const std::vector<std::string>& ids,
                                                 TimePoint deadline) {
    const bool arrived = co_await arrive();
    if (!arrived) {
        for (const auto& id : ids) {
            if (rng_.chance(500)) store(id);
        }
        co_return broken(Transport::reset);
    }
    if (draw(Fault::unanswered, 20)) {
        for (const auto& id : ids) {
            if (rng_.chance(500)) store(id);
        }
        co_return broken(Transport::unanswered);
    }
    Reply reply;
    if (unreachable_for_a_while(reply) || refusing_for_a_while(reply) ||
        refuses_batch(ids, reply) || fails_once(reply)) {
        co_return reply;
    }
    if (draw(Fault::hang_before, 5)) {
        co_await clock_.sleep_until(deadline);
        co_return broken(Transport::timeout);
    }
    co_return take_batch(ids);
}

bool SimUpstream::refuses_batch(const std::vector<std::string>& ids, Reply& reply) {
    const auto holds = [&ids](const char* kind) {
        return std::any_of(ids.begin(), ids.end(), [kind](const std::string& id) {
            return id.find(kind) != std::string::npos;
        });
    };
    if (ids.size() > 1 && draw(Fault::too_large, 50)) {
        reply = http(413, "");
    } else if (ids.size() > 1 && holds("poison") && draw(Fault::poison, 300)) {
        reply = http(400, kRefusal);
    } else if (holds("stuck") && draw(Fault::stuck, 300)) {
        reply = http(500, "");
    } else {
        return false;
    }
    return true;
}

// Some results may be missing, and the whole reply may be lost.
Reply SimUpstream::take_batch(const std::vector<std::string>& ids) {
    std::vector<std::string> stored;
    std::string results;
    bool answered = false;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        Reply one = http(200, "");
        const bool fails = refuses_event(ids[i], one) || (rng_.chance(20) && fails_once(one));
        if (!fails) store(ids[i]);
        if (draw(Fault::reset_after, 5)) continue;
        if (!fails) stored.push_back(ids[i]);
        if (fails && one.status == 200) one.status = one.body == kRefusal ? 400 : 500;
        if (one.transport != Transport::ok) one.status = 503;
        if (one.status == 400 || one.status == 413) refused_.insert(ids[i]);
        if (one.status >= 500 && ids.size() > 1) ++failures_[ids[i]];
        answered = answered || !fails || one.status == 400 || one.status == 413;
        results += fmt::format(R"({}{{"index":{},"status":{},"reason":null}})",
                               results.empty() ? "" : ",", i, one.status);
    }
    if (draw(Fault::reset_after, 20)) return broken(Transport::reset);
    for (const auto& id : stored) may_repeat_[id] = false;
    last_wait_ = milliseconds{0};
    return http(200,
                fmt::format(R"({{{}"results":[{}]}})", answered ? R"("ok":true,)" : "", results));
}

asio::awaitable<Reply> SimUpstream::lose_or_answer(const std::string& id, TimePoint deadline) {
    const bool repeat = rows_.contains(id);
    store(id);
    if (draw(Fault::reset_after, 20)) co_return broken(Transport::reset);
    if (draw(Fault::hang_after, 5)) {
        co_await clock_.sleep_until(deadline);
        co_return broken(Transport::timeout);
    }
    may_repeat_[id] = false;
    if (repeat && draw(Fault::conflict_409, 500)) co_return http(409, R"({"ok":false})");
    if (draw(Fault::no_content, 200)) co_return http(204, "");
    co_return accepted();
}

asio::awaitable<Reply> SimUpstream::workspace_status(TimePoint) {
    co_await clock_.sleep_for(milliseconds{5});
    if (rng_.chance(50)) co_return broken(Transport::reset);
    Workspace workspace;
    workspace.paused =
        lasts(Fault::plan_limit) || lasts(Fault::month_end) || lasts(Fault::ok_false_paused);
    if (lasts(Fault::month_end)) workspace.plan_period_end = month_end_;
    if (lasts(Fault::budget_stop)) {
        workspace.budget_period_end = std::chrono::ceil<std::chrono::days>(clock_.wall_now());
    }
    co_return workspace_reply(workspace);
}

void SimUpstream::watch_request(const std::string& id) {
    if (!watching_) return;
    if (clock_.now() < quiet_until_) {
        violate(fmt::format("a request {} ms before Retry-After was over",
                            std::chrono::ceil<milliseconds>(quiet_until_ - clock_.now()).count()));
    } else if (quiet_until_ != TimePoint{}) {
        quiet_until_ = {};
        coverage_.note(Mark::wait_observed);
    }
    // Records that fail by themselves are sent beside the others, one a second.
    const auto failures = failures_.find(id);
    if (failures != failures_.end() && failures->second >= forward::kStuckFailures) return;
    const auto age = clock_.now() - failing_since_;
    if (failures_in_row_ < kFailuresOfOutage || age < kOutageAge) return;
    coverage_.note(Mark::breaker_held);
    if (concurrency_ > 0) {
        violate(fmt::format("{} requests at once although {} in a row failed", concurrency_ + 1,
                            failures_in_row_));
    }
    if (failures_in_row_ > kFirstProbes + static_cast<std::uint64_t>(age / kProbeGapLeast)) {
        violate(fmt::format("{} requests in {} s of an outage", failures_in_row_,
                            std::chrono::duration_cast<seconds>(age).count()));
    }
}

void SimUpstream::watch_reply(const std::string& id, const Reply& reply) {
    if (reply.status == 400 || reply.status == 413 || reply.body == kRefusal) refused_.insert(id);
    if (answers(reply)) {
        failures_in_row_ = 0;
        return;
    }
    if (++failures_[id] > forward::kStuckFailures) return;
    if (failures_in_row_++ == 0) failing_since_ = clock_.now();
}

void SimUpstream::watch_batch_reply(const std::vector<std::string>& ids, const Reply& reply) {
    if (ids.size() == 1) return watch_reply(ids.front(), reply);
    if (reply.status == 400 || reply.status == 413) coverage_.note(Mark::split_batch);
    if (answers(reply)) {
        failures_in_row_ = 0;
        return;
    }
    bool all_stuck = true;
    for (const auto& id : ids) {
        const bool stuck = failures_[id] >= forward::kStuckFailures;
        if (reply.status != 200) ++failures_[id];
        all_stuck = all_stuck && stuck;
    }
    if (all_stuck) return;
    if (failures_in_row_++ == 0) failing_since_ = clock_.now();
}

// Another process, or another key: what the lane knew of us is void. How often a record failed is
// known until the process ends.
void SimUpstream::forget_manners() {
    failures_in_row_ = 0;
    quiet_until_ = {};
    last_begun_ = 0;
}

void SimUpstream::violate(std::string what) {
    if (violation_.empty()) violation_ = std::move(what);
}

}  // namespace opsrelay::sim
