// The relay without its sockets: intake, spool and forwarding wired together over the seams. The
// daemon gives it system time, RocksDB and HTTPS; the simulation gives it virtual ones.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <deque>
#include <functional>
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
};

/// What `status` and the metrics are made from, read in one moment of the storage thread.
struct Snapshot {
    observe::Ledger ledger;
    std::vector<std::uint64_t> spooled_by_lane;  // in the order of Options::lanes
    std::vector<UnconfiguredLane> unconfigured;
    spool::StoreStats store;
    spool::DeadUsage dead;  // of accepted records
    IdStatus ids;
    std::string trouble;  // why commits do not work at present; empty: they do
};

/// Owns the stages; stop() must have returned before it is destroyed.
class Pipeline {
public:
    /// One destination. `upstream` and `plan` outlive the pipeline and belong to this lane alone.
    struct Lane {
        LaneName name;
        forward::Options forward;
        forward::Upstream& upstream;
        PlanState& plan;
    };
    struct Options {
        Intake::Options intake;
        spool::Options spool;
        std::vector<Lane> lanes;  // at least one; the store has them all
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
    /// An operator put records into this lane. From any thread.
    void note_replayed(LaneId lane);
    [[nodiscard]] bool configured(LaneId lane) noexcept { return find_pump(lane) != nullptr; }
    /// The lane must be one of Options::lanes (asserted).
    [[nodiscard]] forward::Pump& pump(LaneId lane = kDefaultLane);
    /// In the order of Options::lanes.
    [[nodiscard]] std::vector<forward::LaneStatus> lanes() const;
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
    /// nullptr: the lane is not configured.
    [[nodiscard]] forward::Pump* find_pump(LaneId lane) noexcept;
    void report_unconfigured() const;
    [[nodiscard]] Snapshot snapshot_here() const;
    [[nodiscard]] spool::IdKeeper::Hooks id_hooks();
    void drop_oldest(LaneId lane, Seq end);
    [[nodiscard]] spool::CommitHooks hooks(std::function<void(const Error&)> on_failed);

    Executors executors_;
    Clock& clock_;
    spool::Store& store_;            // storage thread
    observe::StorageTotals totals_;  // storage thread
    spool::SegmentQueue queue_;
    Intake intake_;
    std::vector<LaneName> unconfigured_;  // constant after recover()
    spool::Settler settler_;
    std::deque<forward::Pump> pumps_;  // a deque: they do not move
    spool::IdKeeper ids_;
    spool::Committer committer_;
    TaskGroup storage_tasks_;
    TaskGroup forward_tasks_;
};

}  // namespace opsrelay
