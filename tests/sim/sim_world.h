// The whole relay under virtual time: real intake, spool protocol and forwarding of one to four
// lanes; a store that forgets what was not synced; for each lane an upstream with a seeded will of
// its own. One seed fixes everything, also which thread runs next.
#pragma once

#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pipeline.h"
#include "sim/sim_marks.h"
#include "sim/sim_upstream.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay::sim {

/// What one seed did. Equal for equal seeds.
struct Outcome {
    std::string violation;  // empty: every invariant held
    std::uint64_t acknowledged = 0;
    std::uint64_t rows = 0;
    std::uint64_t requests = 0;
    std::uint64_t repeated = 0;
    std::int64_t virtual_seconds = 0;
    Coverage coverage;
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
    /// An id that may be offered again.
    struct Known {
        std::string id;
        std::uint64_t process = 0;
    };
    /// When an id was accepted: it must be remembered for a while from then on.
    struct Accepted {
        TimePoint at{};
        std::uint64_t before = 0;  // ids accepted before it, in all lanes
    };

    /// One lane with its upstream, and what its clients know.
    struct Side {
        LaneName name;
        Xoshiro rng;
        SimUpstream upstream;
        PlanState plan;
        std::map<std::string, Accepted> accepted{};
        std::set<std::string> acknowledged{};
        std::uint64_t first_acks = 0;    // different ids acknowledged since the spool was made
        std::set<std::string> given_up;  // lost with a damaged segment or with an ephemeral spool
        std::vector<std::string> resend{};  // not confirmed: the client sends them again
        bool configured = true;
        forward::UpstreamKind kind = forward::UpstreamKind::opsmeter;
        forward::BatchOptions batch{};
        forward::ConcurrencyMode concurrency = forward::ConcurrencyMode::adaptive;

        Side(LaneName lane, std::uint64_t seed, Clock& clock, std::uint64_t faults, bool long_run)
            : name(std::move(lane)), rng(seed), upstream(clock, rng, faults, long_run) {}
    };
    /// An event that was offered and accepted (or is a duplicate of one).
    struct Told {
        std::size_t side = 0;
        std::string id;
        Position position = 0;
    };
    // sim_world.cpp: the machinery, and the phases.
    void choose_options();
    static void choose_kind(Side& side);
    void start();
    void stop(bool clean);
    void advance(milliseconds duration);
    [[nodiscard]] bool poll_one();
    void settle_threads();
    [[nodiscard]] bool step();
    [[nodiscard]] bool stalled() const { return clock_.now() < stalled_until_; }
    template <typename Done>
    bool run_until(Done done, milliseconds limit);
    void recover_health();
    /// A lane waits for room for dead letters.
    [[nodiscard]] bool dead_full() const;
    [[nodiscard]] milliseconds longest_wait();
    void mark(Mark m) { outcome_.coverage.note(m); }
    void violate(std::string what);

    // sim_actions.cpp: what the world does to the relay.
    void act();
    void offer();
    void offer_to(std::size_t side, ListenerKind kind, const std::vector<std::string>& ids);
    void await_confirmation(std::vector<Told> told);
    asio::awaitable<void> client(std::vector<Told> told, TimePoint due);
    void resend();
    [[nodiscard]] std::size_t some_side();
    [[nodiscard]] std::string make_id(std::size_t side);
    void note_accepted(Side& side, const std::string& id);
    [[nodiscard]] std::string make_event(const std::string& id, ListenerKind kind);
    void harm_store();
    void fill_disk();
    void damage();
    void jump_wall();
    void change_key();
    enum class Clearing : std::uint8_t { some, put_back, purge };
    /// An operator purges some dead letters and puts some back, or does the same with all.
    void clear_dead_letters(Clearing how);
    void crash(bool power_loss);
    /// With some lanes more or less in the configuration, but never without the first.
    void change_lanes();
    void change_lanes_live();
    void pause_lanes();
    void set_paused(bool paused, std::size_t side);
    void configure_all();
    void purge_lane();
    void restart_cleanly();
    void mark_deferred();
    void end_with_pod();

    // sim_checks.cpp: what must hold.
    void collect_acks();
    void acknowledge(const Told& told);
    [[nodiscard]] std::optional<Snapshot> snapshot();
    void check();
    void check_lanes();
    void mark_ids();
    /// Every acknowledged event is delivered, spooled in `store`, or a dead letter there.
    void check_kept(const test::MemStore& store, const char* when);
    /// No more is missing than was counted as dropped by choice.
    void check_dropped();
    void check_end();

    std::uint64_t seed_;
    Xoshiro rng_;       // the world's own choices
    Xoshiro schedule_;  // which thread runs next
    Xoshiro intake_rng_;
    Xoshiro forward_rng_;
    bool long_run_;          // weeks instead of hours
    std::uint32_t hazards_;  // which of the world's own faults this seed may use
    /// ingest, storage, forward, maintenance
    std::array<asio::io_context, 4> threads_;
    std::vector<asio::executor_work_guard<asio::io_context::executor_type>> work_;
    test::SimClock clock_;
    std::deque<Side> sides_;
    std::unique_ptr<test::MemStore> store_;
    std::unique_ptr<observe::Registry> registry_;
    std::unique_ptr<Pipeline> pipeline_;
    std::unique_ptr<TaskGroup> clients_;  // of this process; on the ingest thread
    bool store_failed_ = false;
    bool killed_ = false;        // nobody hears of what this process still does
    milliseconds jumped_{0};     // calendar jumps, added up without their signs
    TimePoint stalled_until_{};  // the storage thread hangs in the disk
    TimePoint began_;

    spool::Options spool_options_;
    spool::DeadLimits dead_limits_;
    bool drops_ = false;         // records may be given up, by drop_oldest or max_age
    std::uint64_t dropped_ = 0;  // by processes that ended
    std::size_t missing_ = 0;    // acknowledged and nowhere, at most so far
    std::uint64_t accepts_ = 0;
    std::uint64_t process_ = 0;
    std::uint64_t next_id_ = 0;
    std::deque<Known> known_;    // the youngest, at most kKnownMax
    std::vector<Told> waiting_;  // accepted, not yet durable
    Outcome outcome_;
};

}  // namespace opsrelay::sim
