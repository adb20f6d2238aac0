// An upstream that plays a script: one fault or reply per request, then a default.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "forward/upstream.h"

namespace opsrelay::test {

/// What one request gets. `commit` says whether upstream has stored the event, whatever it replies.
struct Step {
    forward::Reply reply;
    bool commit = false;
    bool hang = false;  // no reply before the deadline
    milliseconds latency{1};
};

[[nodiscard]] Step accept();
[[nodiscard]] Step answer(int status, std::string body = {});
[[nodiscard]] Step retry_after(int status, std::string value);
[[nodiscard]] Step broken(forward::Transport transport);
[[nodiscard]] Step commit_then_reset();
[[nodiscard]] Step hang();

/// Thread: one. Outlives the requests.
class ScriptedUpstream final : public forward::Upstream {
public:
    explicit ScriptedUpstream(Clock& clock) : clock_(clock) {}

    [[nodiscard]] asio::awaitable<forward::Reply> send(std::string_view body,
                                                       TimePoint deadline) override;
    /// Gets the next step of the script, if there is one, as reply to the whole; else a result for
    /// each event as send() would answer it.
    [[nodiscard]] asio::awaitable<forward::Reply> send_batch(
        std::span<const std::string_view> events, TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<forward::Reply> workspace_status(TimePoint deadline) override;
    void set_api_key(const Secret& key) override { key_ = key.view(); }
    void tend_connections(bool rebuild) override { rebuilds_ += rebuild ? 1 : 0; }
    [[nodiscard]] forward::Pipelining pipelining() const override { return pipelines; }
    forward::Pipelining pipelines;

    /// The next requests get these, in order.
    void script(std::vector<Step> steps);
    /// Requests after the script. Default: accept().
    void otherwise(Step step) { otherwise_ = std::move(step); }
    /// Chooses by the event instead, when set; an unset reply falls through to the script.
    std::function<std::optional<Step>(std::string_view body)> choose;
    /// Answers a whole batch instead, when set; an unset reply falls through.
    std::function<std::optional<Step>(const std::vector<std::string>& events)> choose_batch;
    /// The next workspace-status requests; after them 500.
    void script_status(std::vector<Step> steps);

    /// Events stored, with how often each was sent.
    [[nodiscard]] const std::map<std::string, int>& rows() const noexcept { return rows_; }
    [[nodiscard]] const std::vector<std::string>& requests() const noexcept { return requests_; }
    [[nodiscard]] const std::vector<std::vector<std::string>>& batches() const noexcept {
        return batches_;
    }
    [[nodiscard]] int status_requests() const noexcept { return status_requests_; }
    [[nodiscard]] int in_flight() const noexcept { return in_flight_; }
    [[nodiscard]] int in_flight_max() const noexcept { return in_flight_max_; }
    [[nodiscard]] int rebuilds() const noexcept { return rebuilds_; }
    [[nodiscard]] const std::string& key() const noexcept { return key_; }

private:
    [[nodiscard]] std::optional<Step> next_of_script();
    asio::awaitable<forward::Reply> play(Step step, TimePoint deadline);

    Clock& clock_;
    std::deque<Step> steps_;
    std::deque<Step> status_steps_;
    Step otherwise_ = accept();
    std::map<std::string, int> rows_;
    std::vector<std::string> requests_;
    std::vector<std::vector<std::string>> batches_;
    std::string key_;
    int status_requests_ = 0;
    int in_flight_ = 0;
    int in_flight_max_ = 0;
    int rebuilds_ = 0;
};

}  // namespace opsrelay::test
