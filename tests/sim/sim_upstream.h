// The upstream of one lane, with a seeded will of its own: slow, failing, lying, committing without
// saying so. It keeps rows by id, knows for every repeat whether a lost reply or a lost ack excuses
// it, and watches the lane's manners: one probe at a time, no request before Retry-After is over.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/random.h"
#include "forward/upstream.h"
#include "sim/sim_marks.h"
#include "sim/sim_replies.h"

namespace opsrelay::sim {

class SimUpstream final : public forward::Upstream {
public:
    /// `enabled`: bit i is Fault i. `long_run`: what lasts, lasts for days.
    SimUpstream(Clock& clock, Rng& rng, std::uint64_t enabled, bool long_run);

    [[nodiscard]] asio::awaitable<forward::Reply> send(std::string_view body,
                                                       TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<forward::Reply> send_batch(
        std::span<const std::string_view> events, TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<forward::Reply> workspace_status(TimePoint deadline) override;
    void set_api_key(const Secret&) override { forget_manners(); }

    /// No fault from now on, and what lasted a while is over.
    void heal() {
        enabled_ = 0;
        until_.clear();
    }
    /// A new process finds these records in its spool: they may be sent again, no others.
    void note_restart(const std::vector<std::string>& unsettled);
    /// The relay need not know any more that it has this one.
    void excuse(const std::string& id) { excused_.insert(id); }
    /// The lane is about to end with its spool: it tries although it should wait.
    void note_last_try() { watching_ = false; }

    [[nodiscard]] const std::set<std::string>& rows() const noexcept { return rows_; }
    /// Refused for good at least once: nothing else may become a dead letter.
    [[nodiscard]] bool refused(const std::string& id) const { return refused_.contains(id); }
    [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
    [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }
    [[nodiscard]] std::size_t concurrency_max() const noexcept { return concurrency_max_; }
    /// The first thing the lane did that it must not; "": nothing.
    [[nodiscard]] const std::string& violation() const noexcept { return violation_; }
    [[nodiscard]] const Coverage& coverage() const noexcept { return coverage_; }

private:
    [[nodiscard]] bool draw(Fault fault, std::uint32_t per_mille);
    /// A fault that lasts: begins with a small chance, ends after a random time.
    [[nodiscard]] bool lasting(Fault fault, milliseconds low, milliseconds high);
    [[nodiscard]] bool lasts(Fault fault) const;
    void store(const std::string& id);
    struct Turn {
        std::uint64_t number = 0;
        bool alone = false;
    };
    [[nodiscard]] Turn begin(const std::string& id);
    void end(const Turn& turn, const forward::Reply& reply);
    /// False: the request was cancelled; the server may have got everything.
    [[nodiscard]] asio::awaitable<bool> arrive();
    asio::awaitable<forward::Reply> decide(std::string id, TimePoint deadline);
    asio::awaitable<forward::Reply> decide_batch(const std::vector<std::string>& ids,
                                                 TimePoint deadline);
    [[nodiscard]] bool refuses_batch(const std::vector<std::string>& ids, forward::Reply& reply);
    [[nodiscard]] forward::Reply take_batch(const std::vector<std::string>& ids);
    asio::awaitable<forward::Reply> lose_or_answer(const std::string& id, TimePoint deadline);
    [[nodiscard]] bool unreachable_for_a_while(forward::Reply& reply);
    [[nodiscard]] bool refusing_for_a_while(forward::Reply& reply);
    [[nodiscard]] bool refuses_event(const std::string& id, forward::Reply& reply);
    [[nodiscard]] bool fails_once(forward::Reply& reply);
    [[nodiscard]] bool month_is_over(forward::Reply& reply);
    void put_wait(forward::Reply& reply, seconds wait);

    void watch_request(const std::string& id);
    void watch_reply(const std::string& id, const forward::Reply& reply);
    void watch_batch_reply(const std::vector<std::string>& ids, const forward::Reply& reply);
    void forget_manners();
    void violate(std::string what);

    Clock& clock_;
    Rng& rng_;
    Coverage coverage_;
    std::uint64_t enabled_;
    const bool long_run_;
    const seconds skew_;
    std::map<Fault, TimePoint> until_;
    WallTime month_end_{};
    std::set<std::string> rows_;
    std::map<std::string, bool> may_repeat_;  // of stored rows: the reply or the ack was lost
    std::set<std::string> excused_;
    std::set<std::string> refused_;
    std::uint64_t requests_ = 0;
    std::uint64_t repeated_ = 0;
    std::size_t concurrency_ = 0;
    std::size_t concurrency_max_ = 0;

    // The lane's manners, as seen from here.
    bool watching_ = true;
    std::map<std::string, unsigned> failures_;  // by id
    std::uint64_t failures_in_row_ = 0;
    TimePoint failing_since_{};
    TimePoint quiet_until_{};       // after a 429 with Retry-After to a request that was alone
    milliseconds last_wait_{0};     // of the reply being made
    std::uint64_t last_begun_ = 0;  // number of the request that began last
    std::string violation_;
};

/// The externalRequestId of an event made by the simulation.
[[nodiscard]] std::string id_of(std::string_view body);

}  // namespace opsrelay::sim
