// The relay without its sockets: intake, spool and forwarding wired together over the seams. The
// daemon gives it system time, RocksDB and HTTPS; the simulation gives it virtual ones.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/plan_state.h"
#include "core/random.h"
#include "core/task_group.h"
#include "forward/pump.h"
#include "intake.h"
#include "observe/ledger.h"
#include "spool/committer.h"
#include "spool/id_keeper.h"
#include "spool/segment_queue.h"
#include "spool/settler.h"

namespace opsrelay {

/// One executor a thread; in the simulation all are the same.
struct Executors {
    asio::any_io_executor ingest;
    asio::any_io_executor storage;
    asio::any_io_executor forward;
    asio::any_io_executor maintenance;
};

/// The ids that are remembered.
struct IdStatus {
    std::uint64_t held = 0;
    std::uint64_t max = 0;
    milliseconds window{0};  // the age of the oldest one; 0 when there is none
};

/// A lane that the spool has and the configuration lacks: nothing is sent from it, it keeps its
/// records and dead letters, and goes on when it is configured again.
struct UnconfiguredLane {
    LaneName name;
    std::uint64_t spooled = 0;
    spool::DeferredView deferred{};  // of them
};

/// What `status` and the metrics are made from, read in one moment of the storage thread.
struct Snapshot {
    observe::Ledger ledger;
    std::map<LaneId, std::uint64_t> spooled_by_lane;         // configured ones
    std::map<LaneId, spool::DeferredView> deferred_by_lane;  // the same
    std::vector<UnconfiguredLane> unconfigured;
    spool::StoreStats store;
    Bytes room;             // what may be written before intake closes
    spool::DeadUsage dead;  // of accepted records
    IdStatus ids;
    std::string trouble;  // why commits do not work at present; empty: they do
};

/// Owns the stages; stop() must have returned before it is destroyed.
class Pipeline {
public:
    /// One destination. `upstream` and `plan` belong to this lane alone and outlive it here.
    struct Lane {
        LaneName name;
        forward::Options forward;
        forward::Upstream& upstream;
        PlanState& plan;
    };
    struct Options {
        Intake::Options intake;
        spool::Options spool;
        std::vector<Lane> lanes;      // at least one; the store has them all
        observe::Tap* tap = nullptr;  // shows what passes; outlives it. Null: nobody can watch
    };
    /// `on_failed` is called on the storage thread when the store cannot be used any more.
    Pipeline(const Executors& executors, Clock& clock, Rng& intake_rng, Rng& forward_rng,
             spool::Store& store, const Options& options, observe::Registry& registry,
             std::function<void(const Error&)> on_failed);
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    /// Adopts cursors and ids from the store. Before start(), on any one thread.
    [[nodiscard]] Result<void> recover();
    /// Starts every stage; each coroutine begins on its own executor. Before their threads run.
    void start();

    [[nodiscard]] Intake& intake() noexcept { return intake_; }
    /// For changes that an operator asks for; on the storage thread.
    [[nodiscard]] spool::Settler& settler() noexcept { return settler_; }
    /// An operator put records into this lane, paused it, wants its wait to end. From any thread.
    void note_replayed(LaneId lane);
    void note_paused(LaneId lane, bool paused);
    void note_flush(LaneId lane);
    /// Whether something is sent from the lane, if upstream takes it. On the storage thread.
    [[nodiscard]] bool configured(LaneId lane) const { return configured_.contains(lane); }
    /// The lane must be configured (asserted). On the forward thread, as those below.
    [[nodiscard]] forward::Pump& pump(LaneId lane = kDefaultLane);
    /// nullptr: the lane is not configured.
    [[nodiscard]] forward::Pump* find_pump(LaneId lane) noexcept;
    [[nodiscard]] std::vector<forward::LaneStatus> lanes() const;

    /// The number of the lane of this name, which is made when there is none. Errors: as
    /// Store::make_lane().
    [[nodiscard]] asio::awaitable<Result<LaneId>> make_lane(std::string name);
    /// Begins to send from a lane that the store has and that is not configured. A Retry-After of
    /// the same upstream is obeyed over the change.
    [[nodiscard]] asio::awaitable<void> add_lane(Lane lane);
    /// Ends sending from a lane: requests in flight may finish until `deadline`. It keeps its
    /// records.
    [[nodiscard]] asio::awaitable<void> remove_lane(LaneId lane, TimePoint deadline);
    /// From now on the limits of these options hold (spool::take_limits()).
    [[nodiscard]] asio::awaitable<void> set_limits(spool::Options options);
    /// Waits until everything that intake took so far is committed. False: not until `due`.
    [[nodiscard]] asio::awaitable<bool> commit_pending(TimePoint due);

    [[nodiscard]] const spool::SegmentQueue& queue() const noexcept { return queue_; }
    /// From any executor.
    [[nodiscard]] asio::awaitable<Snapshot> snapshot();

    /// Pump::drain_until() of all lanes at once: true when all of them are empty. On the forward
    /// executor.
    [[nodiscard]] asio::awaitable<bool> drain_until(TimePoint deadline);
    /// Ends forwarding (requests in flight may finish until `deadline`), then commits what intake
    /// handed over, for at most `commit_limit` when the disk refuses. The listeners must have
    /// stopped before. On the forward executor.
    [[nodiscard]] asio::awaitable<void> stop(TimePoint deadline, milliseconds commit_limit);

private:
    forward::Pump& make_pump(const Lane& lane);
    void share_memory();
    void report_unconfigured(LaneId lane) const;
    [[nodiscard]] Snapshot snapshot_here() const;
    [[nodiscard]] spool::IdKeeper::Hooks id_hooks();
    void drop_oldest(LaneId lane, Seq end);
    [[nodiscard]] spool::CommitHooks hooks(std::function<void(const Error&)> on_failed);

    Executors executors_;
    Clock& clock_;
    Rng& forward_rng_;
    observe::Registry& registry_;
    observe::Tap* const tap_;
    spool::Store& store_;            // storage thread
    observe::StorageTotals totals_;  // storage thread
    spool::SegmentQueue queue_;
    Intake intake_;
    std::map<LaneId, std::string> names_;  // storage thread: all lanes
    std::set<LaneId> configured_;          // storage thread: those with a pump that was started
    spool::Settler settler_;
    std::list<forward::Pump> pumps_;  // forward thread; a list: they do not move
    /// What upstreams asked lanes to wait that are not sent from at the moment. Forward thread;
    /// bounded by the lanes that a spool may have.
    struct Wait {
        std::string url;
        TimePoint until;
    };
    std::map<LaneId, Wait> waits_;
    spool::IdKeeper ids_;
    spool::Committer committer_;
    TaskGroup storage_tasks_;
    TaskGroup forward_tasks_;
};

}  // namespace opsrelay
