// The whole relay under virtual time: real intake, spool protocol and forwarding; a store that
// forgets what was not synced; an upstream with a seeded will of its own. One seed fixes
// everything.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipeline.h"
#include "sim/sim_upstream.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay::sim {

/// Rare paths that a set of seeds must have taken to prove anything.
enum class Mark : std::uint8_t {
    power_loss,
    kill,
    clean_restart,
    unsynced_acks_lost,
    commit_refused,
    store_reopened,
    failed_commit_landed,
    store_gone,
    segment_damaged,
    wall_clock_jumped,
    duplicate,
    duplicate_before_durable,
    rejected,
    shed,
    dead_letter,
    replayed,
    key_changed,
    replay_refused,
    ids_sealed,
    ids_merged,
    ids_expired,
    maybe_confirmed,  // a duplicate that only the disk could tell...
    confirmed_after_restart,
    maybe_false,
    run_refused,
};
inline constexpr std::size_t kMarks = 25;

/// What one seed did. Equal for equal seeds.
struct Outcome {
    std::string violation;  // empty: every invariant held
    std::uint64_t acknowledged = 0;
    std::uint64_t rows = 0;
    std::uint64_t requests = 0;
    std::uint64_t repeated = 0;
    std::int64_t virtual_seconds = 0;
    std::uint32_t marks = 0;  // bit i: Mark i
    std::map<Fault, std::uint64_t> faults;
    bool operator==(const Outcome&) const = default;
};

class SimWorld {
public:
    explicit SimWorld(std::uint64_t seed);
    SimWorld(const SimWorld&) = delete;
    SimWorld& operator=(const SimWorld&) = delete;
    ~SimWorld();

    /// A safety phase of random actions and faults, then a liveness phase without faults in which
    /// everything must be delivered within bounded virtual time.
    [[nodiscard]] Outcome run();

private:
    struct Waiting {
        std::string id;
        Position position;
    };

    /// When an id was accepted: it must be remembered for a while from then on.
    struct Accepted {
        TimePoint at;
        std::uint64_t before = 0;  // ids accepted before it
    };

    void start();
    void stop(bool clean);
    void act();
    void offer();
    void harm_store();
    void crash(bool power_loss);
    void restart_cleanly();
    void advance(milliseconds duration);
    void collect_acks();
    [[nodiscard]] std::string make_id();
    void note_accepted(const std::string& id);
    void mark_ids();
    [[nodiscard]] std::string make_event(const std::string& id);
    [[nodiscard]] Snapshot snapshot();
    void check();
    void check_end();
    void violate(std::string what);
    void mark(Mark m) noexcept { outcome_.marks |= 1U << index_of(m); }
    template <typename Done>
    bool run_until(Done done, milliseconds limit);

    std::uint64_t seed_;
    Xoshiro rng_;  // the world's own choices
    Xoshiro intake_rng_;
    Xoshiro forward_rng_;
    asio::io_context io_;
    test::SimClock clock_;
    std::uint32_t hazards_ = 0;  // which of the world's own faults this seed may use
    Xoshiro upstream_rng_;
    SimUpstream upstream_;
    std::unique_ptr<test::MemStore> store_;
    std::unique_ptr<observe::Registry> registry_;
    PlanState plan_;
    std::unique_ptr<Pipeline> pipeline_;
    bool store_failed_ = false;
    TimePoint began_;

    std::uint64_t next_id_ = 0;
    std::vector<std::string> ids_;  // every id ever offered
    std::map<std::string, Accepted> accepted_;
    std::uint64_t accepts_ = 0;
    spool::IdOptions id_options_;
    int starts_ = 0;
    std::vector<Waiting> waiting_;  // offered, not yet acknowledged
    std::set<std::string> acknowledged_;
    std::uint64_t lost_to_damage_ = 0;  // records in segments that the world damaged
    Outcome outcome_;
};

/// Names for failure messages, by bit.
[[nodiscard]] std::string missing_marks(std::uint32_t marks);

}  // namespace opsrelay::sim
