// Group commit: the coroutine on the storage thread that makes events durable.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/log.h"
#include "core/signal.h"
#include "observe/ledger.h"
#include "observe/metrics.h"
#include "spool/disk_budget.h"
#include "spool/id_keeper.h"
#include "spool/options.h"
#include "spool/segment_queue.h"
#include "spool/settler.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// What the committer tells the rest of the relay. Called on the storage thread; must not block.
struct CommitHooks {
    /// Every event up to `position` is durable, or intake may have room again.
    std::function<void(Position position)> settled;
    /// These events, which somebody asks after, turned out to be duplicates of durable ones. Told
    /// before `settled`.
    std::function<void(std::vector<Position> positions)> struck;
    /// A lane got records.
    std::function<void(LaneId lane)> committed;
    /// The lane is to give up its records below `end` that are not being sent, to make room.
    std::function<void(LaneId lane, Seq end)> drop_oldest;
    /// The store cannot be used any more: nothing that is still waiting will become durable.
    std::function<void(const Error& error)> failed;
};

/// Takes what gathered in the queue, strikes out what is a duplicate after all, commits the rest,
/// says so, and begins again: as soon as the last
/// sync returned, but never sooner than commit_gap after the last one began. A batch the disk
/// refuses is kept and tried again: nothing that was accepted is given up while the store can be
/// opened. Thread: storage, except where noted.
class Committer {
public:
    Committer(asio::any_io_executor storage, Clock& clock, SegmentQueue& queue, Store& store,
              Settler& settler, IdKeeper& ids, const Options& options,
              observe::StorageTotals& totals, observe::Registry& registry, CommitHooks hooks);
    Committer(const Committer&) = delete;
    Committer& operator=(const Committer&) = delete;

    /// Runs until request_stop() and an empty queue, until stop_at, or until the store failed.
    [[nodiscard]] asio::awaitable<void> run();
    /// Once a second: syncs acks, retries refused ones, opens and closes intake by the disk budget
    /// (which run() does too, after much was committed), keeps the reserve, and makes room where
    /// the oldest records may be dropped.
    [[nodiscard]] asio::awaitable<void> run_housekeeping();
    /// There is something in the queue, or room for ids again.
    void wake() { wake_.notify_all(); }
    /// Commit what is queued, then return from run(); a disk that refuses is tried until
    /// `give_up_at`.
    void request_stop(TimePoint give_up_at);

    /// Events taken from the queue whose commit has not returned.
    [[nodiscard]] std::uint64_t in_hand() const noexcept { return in_hand_; }
    /// The position of the last of them, or of the last that was durable before.
    [[nodiscard]] Position in_hand_last() const noexcept { return in_hand_last_; }
    /// Every event up to here is durable.
    [[nodiscard]] Position durable() const noexcept { return durable_; }
    /// From now on the limits of these options hold (take_limits()).
    void set_limits(const Options& options);
    /// The last StoreStats, at most about a second old.
    [[nodiscard]] const StoreStats& last_stats() const noexcept { return last_stats_; }
    /// What may be taken in before intake closes, by the last stats.
    [[nodiscard]] Bytes room() const noexcept { return budget_.room(last_stats_); }
    /// Why the last commit, ack or sync did not work, while it is being tried again; else empty.
    [[nodiscard]] const std::string& trouble() const noexcept {
        return trouble_.empty() ? idle_trouble_ : trouble_;
    }

private:
    enum class Attempt : std::uint8_t { done, again, failed };
    [[nodiscard]] Attempt attempt(const Group& group);
    [[nodiscard]] Attempt reopen(const Error& cause);
    [[nodiscard]] asio::awaitable<bool> commit(const Group& group);
    void strike_duplicates(Group& group);
    void strike_duplicates(Segment& segment, std::vector<Position>& asked_after);
    void begin_stall();
    void end_stall();
    void flush_acks();
    void watch_disk();
    void keep_reserve();
    void log_recovery();
    void log_intake(Intake decided);
    [[nodiscard]] std::string next_step(Intake decided) const;
    [[nodiscard]] bool needs_more_than_records() const;
    void make_room();

    Clock& clock_;
    SegmentQueue& queue_;
    Store& store_;
    Settler& settler_;
    IdKeeper& ids_;
    Options options_;
    observe::StorageTotals& totals_;
    CommitHooks hooks_;
    Signal wake_;
    log::Throttle throttle_;
    observe::Histogram& commit_seconds_;
    observe::Histogram& commit_events_;

    DiskBudget budget_;
    TimePoint last_start_{};
    std::optional<TimePoint> give_up_at_;
    std::uint64_t in_hand_ = 0;
    Position in_hand_last_ = 0;
    Position durable_ = 0;
    bool stalled_ = false;
    Position behind_stall_ = 0;  // up to here events waited while nothing was committed
    StoreStats last_stats_;
    Bytes committed_;           // since then
    bool volume_full_ = false;  // a commit or an ack met a full volume, and none worked since
    TimePoint reserve_due_{};   // the reserve could not be had; not tried again before this
    std::string trouble_;       // of commits
    std::string idle_trouble_;  // of acks and syncs
    bool reopened_ = false;     // since the last commit that worked
    TimePoint reopen_due_{};    // there was no space to open it again; not tried before this
    milliseconds reopen_pause_{};
    bool ended_ = false;
};

}  // namespace opsrelay::spool
