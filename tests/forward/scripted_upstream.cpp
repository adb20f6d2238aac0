#include "forward/scripted_upstream.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

namespace opsrelay::test {

using forward::Reply;
using forward::Transport;

Step accept() {
    auto step = answer(200, R"({"ok":true})");
    step.commit = true;
    return step;
}

Step answer(int status, std::string body) {
    Step step;
    step.reply.status = status;
    step.reply.body = std::move(body);
    return step;
}

Step retry_after(int status, std::string value) {
    auto step = answer(status);
    step.reply.retry_after = std::move(value);
    return step;
}

Step broken(Transport transport) {
    Step step;
    step.reply.transport = transport;
    step.reply.error = "scripted";
    return step;
}

Step commit_then_reset() {
    auto step = broken(Transport::reset);
    step.commit = true;
    return step;
}

Step hang() {
    auto step = broken(Transport::timeout);
    step.hang = true;
    return step;
}

asio::awaitable<Reply> ScriptedUpstream::play(Step step, TimePoint deadline) {
    in_flight_max_ = std::max(in_flight_max_, ++in_flight_);
    const auto due = step.hang ? deadline : std::min(deadline, clock_.now() + step.latency);
    co_await clock_.sleep_until(due);
    --in_flight_;
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none) {
        co_return broken(Transport::reset).reply;
    }
    co_return std::move(step.reply);
}

asio::awaitable<Reply> ScriptedUpstream::send(std::string_view body, TimePoint deadline) {
    requests_.emplace_back(body);
    auto step = choose ? choose(body) : std::nullopt;
    if (!step && !steps_.empty()) {
        step = std::move(steps_.front());
        steps_.pop_front();
    }
    if (!step) step = otherwise_;
    if (step->commit) ++rows_[std::string(body)];
    return play(std::move(*step), deadline);
}

asio::awaitable<Reply> ScriptedUpstream::workspace_status(TimePoint deadline) {
    ++status_requests_;
    auto step = answer(500);
    if (!status_steps_.empty()) {
        step = std::move(status_steps_.front());
        status_steps_.pop_front();
    }
    return play(std::move(step), deadline);
}

void ScriptedUpstream::script(std::vector<Step> steps) {
    steps_.assign(std::make_move_iterator(steps.begin()), std::make_move_iterator(steps.end()));
}

void ScriptedUpstream::script_status(std::vector<Step> steps) {
    status_steps_.assign(std::make_move_iterator(steps.begin()),
                         std::make_move_iterator(steps.end()));
}

}  // namespace opsrelay::test
