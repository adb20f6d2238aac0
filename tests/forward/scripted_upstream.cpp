#include "forward/scripted_upstream.h"

#include <fmt/format.h>

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

std::optional<Step> ScriptedUpstream::next_of_script() {
    if (steps_.empty()) return std::nullopt;
    auto step = std::move(steps_.front());
    steps_.pop_front();
    return step;
}

asio::awaitable<Reply> ScriptedUpstream::send_batch(std::span<const std::string_view> events,
                                                    TimePoint deadline) {
    const auto& batch = batches_.emplace_back(events.begin(), events.end());
    requests_.insert(requests_.end(), batch.begin(), batch.end());
    auto whole = choose_batch ? choose_batch(batch) : std::nullopt;
    if (!whole) whole = next_of_script();
    if (whole) {
        for (const auto& event : batch) {
            if (whole->commit) ++rows_[event];
        }
        return play(std::move(*whole), deadline);
    }
    std::string results;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto chosen = choose ? choose(batch[i]) : std::nullopt;
        const auto& one = chosen ? *chosen : otherwise_;
        if (one.commit) ++rows_[batch[i]];
        results += fmt::format(R"({}{{"index":{},"status":{},"reason":null}})", i == 0 ? "" : ",",
                               i, one.reply.status);
    }
    return play(answer(200, fmt::format(R"({{"results":[{}]}})", results)), deadline);
}

asio::awaitable<Reply> ScriptedUpstream::send(std::string_view body, TimePoint deadline) {
    requests_.emplace_back(body);
    auto step = choose ? choose(body) : std::nullopt;
    if (!step) step = next_of_script();
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
