// A Store in memory, simple enough to be obviously right, that forgets in a crash what was not
// synced. The simulation runs on it; the model test holds RocksStore to it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spool/dead_letter.h"
#include "spool/options.h"
#include "spool/store.h"

namespace opsrelay::test {

/// What a failed write left behind.
enum class Landed : std::uint8_t {
    no,   // nothing
    yes,  // all of it, on disk: seen after a crash or a reopen
};

/// Which calls fail_next() applies to.
enum class StoreCall : std::uint8_t {
    commit,
    read,
    ack,
    read_deferred,
    replay,
    purge_dead,
    sync,
    reopen,
    make_run,   // a seal or merge job
    adopt_run,  // landed: the run is there, what it replaces too
    drop_runs,
    make_lane,
    set_paused
};

/// Deterministic: the same calls give the same results, in the same order. Thread: one.
class MemStore final : public spool::Store {
public:
    explicit MemStore(std::uint64_t salt = 1, std::vector<LaneId> lanes = {kDefaultLane},
                      spool::DeadLimits dead = {});

    [[nodiscard]] std::uint64_t salt() const override { return salt_; }
    [[nodiscard]] std::vector<spool::LaneState> lanes() const override;
    [[nodiscard]] Result<LaneId> make_lane(std::string_view name) override;
    [[nodiscard]] Result<void> set_paused(LaneId lane, bool paused) override;
    void set_limits(const spool::Options& options) override;
    [[nodiscard]] Result<void> replay_ids(
        const std::function<void(const IdHash&, std::int64_t)>& sink) override;
    [[nodiscard]] std::uint64_t id_log_begin() const override { return live_.sealed; }
    [[nodiscard]] std::uint64_t id_log_end() const override { return live_.next_entry; }
    [[nodiscard]] std::vector<spool::IdRun> id_runs() const override;
    [[nodiscard]] std::uint64_t damaged_id_pages() const override { return damaged_pages_; }
    [[nodiscard]] std::vector<bool> find_ids(std::span<const IdHash> ids) override;
    [[nodiscard]] spool::RunJob seal_job(const spool::SealSpec& spec,
                                         std::shared_ptr<std::vector<IdHash>> ids) override;
    [[nodiscard]] spool::RunJob merge_job(spool::RunName name,
                                          std::span<const spool::RunName> inputs,
                                          unsigned filter_bits) override;
    [[nodiscard]] Result<void> adopt_run(const spool::NewRun& made) override;
    [[nodiscard]] Result<void> drop_runs(std::span<const spool::RunName> names) override;
    [[nodiscard]] Result<void> commit(std::span<const spool::Segment> segments,
                                      std::span<const spool::DeadLetter> rejected) override;
    [[nodiscard]] Result<spool::RecordBatch> read(LaneId lane, Seq from) override;
    [[nodiscard]] Result<void> ack(const spool::Ack& ack) override;
    [[nodiscard]] Result<std::optional<spool::DeferredRecord>> read_deferred(LaneId lane,
                                                                             Seq seq) override;
    [[nodiscard]] spool::DeferredLimits deferred_limits() const override {
        return deferred_limits_;
    }
    [[nodiscard]] Result<std::uint64_t> replay(LaneId lane,
                                               std::span<const spool::Revival> letters) override;
    [[nodiscard]] Result<spool::DeadPage> read_dead(const spool::DeadQuery& query) override;
    [[nodiscard]] Result<std::uint64_t> purge_dead(
        std::span<const spool::DeadKey> letters) override;
    [[nodiscard]] spool::DeadEnds dead_ends() const override;
    [[nodiscard]] spool::DeadUsage dead_usage() const override;
    [[nodiscard]] Result<void> sync() override;
    [[nodiscard]] Result<void> reopen() override;
    [[nodiscard]] spool::StoreStats stats() override;
    [[nodiscard]] Bytes lane_bytes(LaneId lane) override;
    [[nodiscard]] Result<void> hold_reserve(Bytes wanted) override;
    void close() override;

    /// Power loss: of what was not synced the first `kept` changes are left; the store is then as a
    /// new process finds it.
    void crash(std::size_t kept = 0);
    /// Changes that a power loss may forget.
    [[nodiscard]] std::size_t unsynced() const noexcept { return unsynced_.size(); }
    /// kill -9: what was written is there, synced or not; the store is as a new process finds it.
    void restart();

    /// The next `times` calls of this kind fail with `code`. spool_reopen stays until reopen():
    /// every write fails with it. `landed` applies to commit, replay, purge_dead, adopt_run,
    /// make_lane and set_paused.
    void fail_next(StoreCall call, Errc code, std::uint32_t times = 1, Landed landed = Landed::no);
    /// Whether failures set by fail_next() are still to come.
    [[nodiscard]] bool failures_pending() const noexcept { return !failures_.empty(); }
    /// Every write fails with `code` (such as spool_full) until this is called with nullopt.
    void refuse_writes(std::optional<Errc> code) noexcept { refusal_ = code; }
    /// Damages the segment that holds this record: read() skips it and reports it lost. False:
    /// there is none.
    bool damage(LaneId lane, Seq seq);
    /// Damages a deferred record: read_deferred() does not find it. False: there is none.
    bool damage_deferred(LaneId lane, Seq seq);
    void set_deferred_limits(spool::DeferredLimits limits) noexcept { deferred_limits_ = limits; }
    /// Damages an id run: its ids are forgotten. False: there is none of this name.
    bool damage_run(spool::RunName name);
    /// What stats() reports about the volume.
    void set_volume(Bytes free, Bytes size) noexcept;
    /// What stats() reports as left by repairs, and their size.
    void keep_copies(std::vector<std::string> paths, Bytes size) {
        copies_ = std::move(paths);
        copies_bytes_ = size;
    }
    /// From now on hold_reserve() fails with `code`, unless it is to give back; nullopt: no more.
    void refuse_reserve(std::optional<Errc> code) noexcept { reserve_refusal_ = code; }

    // --- For assertions ---

    /// The number after the last record of the lane that a power loss would leave.
    [[nodiscard]] Seq durable_end(LaneId lane) const { return durable_.lanes.at(lane).next_write; }
    /// The records without an outcome that can be read: the queue in order, then those deferred.
    [[nodiscard]] std::vector<std::string> unsettled(LaneId lane) const {
        return records(lane, true);
    }
    /// Those with an outcome too: a power loss may bring them back.
    [[nodiscard]] std::vector<std::string> records(LaneId lane, bool unsettled_only = false) const;
    /// Dead letters of accepted records, by lane and number; then those of admission.
    [[nodiscard]] std::vector<spool::DeadLetter> dead_letters() const;
    /// Deferred records, by number.
    [[nodiscard]] std::vector<spool::DeferredRecord> deferred(LaneId lane) const;
    [[nodiscard]] std::uint64_t commits() const noexcept { return commits_; }
    /// Calls of read() for this lane.
    [[nodiscard]] std::uint64_t reads(LaneId lane) const {
        const auto found = reads_.find(lane);
        return found == reads_.end() ? 0 : found->second;
    }
    /// Calls of ack(), refused ones too.
    [[nodiscard]] std::uint64_t acks() const noexcept { return acks_; }
    [[nodiscard]] bool closed() const noexcept { return closed_; }

private:
    struct StoredSegment {
        std::shared_ptr<const spool::Segment> segment;  // shared between the live and durable state
        bool damaged = false;
    };
    struct Lane {
        std::string name;
        bool paused = false;
        Seq next_settle = 1;
        Seq next_write = 1;
        std::vector<Seq> ahead;
        std::map<Seq, StoredSegment> segments;  // by the first record's number
        std::map<Seq, spool::DeferredRecord> deferred;
        std::string memo;
    };
    struct IdEntry {
        std::vector<IdHash> ids;
        std::int64_t unix_ms = 0;
    };
    /// Shared between the live and the durable state.
    using RunIds = std::shared_ptr<const std::set<IdHash>>;
    struct Run {
        spool::IdRun run;
        RunIds ids;
    };
    struct State {
        std::map<LaneId, Lane> lanes;
        std::map<std::uint64_t, IdEntry> id_log;
        std::uint64_t next_entry = 1;
        std::uint64_t sealed = 1;
        std::map<spool::RunName, Run> runs;
        std::map<spool::DeadKey, spool::DeadLetter> letters;
        std::uint64_t next_admission = 1;
    };
    /// Makes a change to a state; applied to the live one at once, to the durable one with the next
    /// sync.
    using Change = std::function<void(State&)>;
    /// What a failed replay may have left: it is undone before anything else is written.
    struct Replay {
        std::vector<Seq> keys;
        std::vector<spool::DeadLetter> letters;
    };
    struct Failure {
        StoreCall call;
        Errc code;
        Landed landed;
    };

    [[nodiscard]] std::optional<Failure> take_failure(StoreCall call);
    [[nodiscard]] Error injected(const Failure& failure);
    [[nodiscard]] std::optional<Error> refused_write() const;
    [[nodiscard]] Lane& lane(LaneId id);
    [[nodiscard]] Change commit_change(std::span<const spool::Segment> segments,
                                       std::span<const spool::DeadLetter> rejected) const;
    void evict_admission(State& state) const;
    [[nodiscard]] spool::RunJob run_job(const spool::RunInfo& info, unsigned filter_bits,
                                        std::function<std::set<IdHash>()> ids);
    void apply(const spool::NewRun& made, const RunIds& ids);
    void make_durable();
    void undo_replays();
    void apply_durably(const Change& change);
    /// apply_durably(), unless the call is to fail.
    [[nodiscard]] Result<void> write(StoreCall call, const Change& change);

    // Constant after construction, but for set_limits().
    std::uint64_t salt_;
    spool::DeadLimits dead_limits_;
    spool::DeferredLimits deferred_limits_{spool::kDeferredRecordsMax, Bytes{16U << 20U}};
    std::set<std::pair<LaneId, Seq>> damaged_deferred_;

    State live_;
    State durable_;
    std::map<std::string, RunIds> files_;  // of runs that are not part of the store yet
    std::uint64_t damaged_pages_ = 0;
    std::vector<std::string> copies_;
    Bytes copies_bytes_;
    std::vector<Change> unsynced_;
    std::set<LaneId> commits_in_doubt_;
    std::map<LaneId, Replay> replays_in_doubt_;
    std::deque<Failure> failures_;
    std::optional<Errc> refusal_;
    bool needs_reopen_ = false;
    bool closed_ = false;
    std::optional<Errc> reserve_refusal_;
    Bytes reserve_;
    Bytes volume_free_{100ULL << 30U};  // without a reserve
    Bytes volume_size_{200ULL << 30U};
    std::uint64_t commits_ = 0;
    Bytes committed_;
    std::map<LaneId, std::uint64_t> reads_;
    std::uint64_t acks_ = 0;
};

}  // namespace opsrelay::test
