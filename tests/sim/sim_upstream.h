// An upstream with a seeded will of its own: slow, failing, lying, committing without saying so. It
// keeps rows by id, and knows for every repeat whether a lost reply or a crash excuses it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/random.h"
#include "forward/upstream.h"

namespace opsrelay::sim {

/// What can go wrong with one request or for a while. A seed enables a random subset.
enum class Fault : std::uint8_t {
    latency,            // up to 2 s
    reset_before,       // nothing was stored
    reset_after,        // the row was stored, the reply lost
    hang_before,        // no reply within the deadline, nothing stored
    hang_after,         // no reply within the deadline, stored
    error_500,          // for one request
    unavailable,        // 503 with Retry-After, for a while
    throttle,           // 429, with or without Retry-After
    outage,             // connections refused, for minutes to hours
    unauthorized,       // 401, for a while
    plan_limit,         // 402 and workspace-status says paused, for a while
    budget_stop,        // 402 of the other kind, for a while
    web_page,           // 200 with HTML, for a while
    refuse_everything,  // 400 to every event, for a while
    poison,             // 400 to events whose id contains "poison"
    conflict_409,       // a repeat is answered with 409
    ok_false,           // 200 with ok:false and an unknown reason
};
inline constexpr std::size_t kFaults = 17;

class SimUpstream final : public forward::Upstream {
public:
    /// `enabled`: bit i is Fault i.
    SimUpstream(Clock& clock, Rng& rng, std::uint32_t enabled);

    [[nodiscard]] asio::awaitable<forward::Reply> send(std::string_view body,
                                                       TimePoint deadline) override;
    [[nodiscard]] asio::awaitable<forward::Reply> workspace_status(TimePoint deadline) override;
    void set_api_key(std::string) override {}

    /// No fault from now on, and what lasted a while is over.
    void heal() {
        enabled_ = 0;
        until_.clear();
    }
    /// The relay need not know any more that it has this one.
    void excuse(const std::string& id) { excused_.insert(id); }
    /// The relay lost its memory of what it acked but did not sync.
    void note_crash() { ++crashes_; }

    [[nodiscard]] const std::set<std::string>& rows() const noexcept { return rows_; }
    [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
    [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }
    /// Ids that were sent again although their delivery was known. Must stay empty.
    [[nodiscard]] const std::vector<std::string>& unexcused() const noexcept { return unexcused_; }
    [[nodiscard]] std::size_t concurrency_max() const noexcept { return concurrency_max_; }
    /// Requests per fault that was played, for the coverage marks.
    [[nodiscard]] const std::map<Fault, std::uint64_t>& played() const noexcept { return played_; }

private:
    struct Delivery {
        bool reply_lost = false;
        std::uint64_t crashes = 0;  // when the reply was given
    };
    [[nodiscard]] bool draw(Fault fault, std::uint32_t per_mille);
    /// A fault that lasts: begins with a small chance, ends after a random time.
    [[nodiscard]] bool lasting(Fault fault, milliseconds low, milliseconds high);
    void store(const std::string& id);
    asio::awaitable<forward::Reply> decide(std::string id, TimePoint deadline);
    asio::awaitable<forward::Reply> lose_or_answer(const std::string& id, TimePoint deadline);
    [[nodiscard]] bool on_for_a_while(const std::string& id, forward::Reply& reply);

    Clock& clock_;
    Rng& rng_;
    std::uint32_t enabled_;
    std::map<Fault, TimePoint> until_;
    std::map<Fault, std::uint64_t> played_;
    std::set<std::string> rows_;
    std::map<std::string, Delivery> deliveries_;
    std::set<std::string> excused_;
    std::vector<std::string> unexcused_;
    std::uint64_t requests_ = 0;
    std::uint64_t repeated_ = 0;
    std::uint64_t crashes_ = 0;
    std::size_t concurrency_ = 0;
    std::size_t concurrency_max_ = 0;
};

/// The externalRequestId of an event made by the simulation.
[[nodiscard]] std::string id_of(std::string_view body);

}  // namespace opsrelay::sim
