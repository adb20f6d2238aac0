// The seam to durable storage. RocksStore is the real one; MemStore in the tests is the simple one
// that can forget what was not synced.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "core/outcome.h"
#include "core/units.h"
#include "observe/llm_usage.h"
#include "spool/id_run.h"

namespace opsrelay::spool {

struct Options;

/// An event whose id a filter of ingest knows: seen before, or not.
struct MaybeSeen {
    std::uint32_t index = 0;  // in its segment
    Position position = 0;
    bool asked_after = false;  // somebody waits to hear which it was
    observe::LlmCall call{};   // to count once it is known that it was not seen before
};

/// The events of one lane in one group commit, before they have sequence numbers.
/// Up to 512 KiB of payload, 8192 events, 1 s of receive time (spool/options.h).
struct Segment {
    LaneId lane = kDefaultLane;
    std::string payload;  // events, each followed by '\n'; an event contains no raw newline
    std::uint32_t count = 0;
    std::int64_t received_unix_ms = 0;  // of the first event
    std::vector<IdHash> ids;            // one an event, in order
    std::vector<MaybeSeen> maybe;       // of the ids above, ascending; none once it is committed
    std::int64_t id_clock_ms = 0;       // when the ids count as remembered (id_keeper.h)
};

enum class DeadKind : std::uint8_t {
    admission,  // rejected before acceptance
    upstream    // an accepted record that upstream refused for good
};

/// An event that will not be sent, kept with its reason.
struct DeadLetter {
    DeadKind kind = DeadKind::admission;
    LaneId lane = kDefaultLane;
    Seq seq = 0;  // upstream: the record's number. admission: the store's, which gives it at commit
    std::int64_t unix_ms = 0;
    std::string reason;  // an enum name: a RejectReason, or "upstream_400" and the like
    std::string detail;  // for a human: field and rule, or the reply's first 1 KiB
    std::string source;  // listener kind, or "upstream"
    std::string id;      // recognised externalRequestId, provider, model
    std::string provider;
    std::string model;
    std::uint64_t bytes = 0;  // length of the event as it came in
    std::uint64_t hash = 0;   // XXH3-64 of the event as it came in
    std::string payload;      // the event; empty when it did not parse
};

/// Which dead letter: `number` is DeadLetter::seq. In the order in which they are read.
struct DeadKey {
    DeadKind kind = DeadKind::admission;
    LaneId lane = kDefaultLane;
    std::uint64_t number = 0;
    auto operator<=>(const DeadKey&) const = default;
};
[[nodiscard]] inline DeadKey key_of(const DeadLetter& letter) noexcept {
    return {letter.kind, letter.lane, letter.seq};
}

/// Numbers of dead letters of accepted records from here on are those of no record: a repair took
/// the letters back from another database.
inline constexpr std::uint64_t kForeignDead = std::uint64_t{1} << 63U;

/// Which numbers dead letters have at one moment: those that come later have others. Times do not
/// tell, since clocks are put back.
struct DeadEnds {
    std::uint64_t admission = 1;    // the number that the next one gets
    std::map<LaneId, Seq> lanes{};  // LaneState::next_write
    [[nodiscard]] bool contains(const DeadKey& key) const {
        if (key.kind == DeadKind::admission) return key.number < admission;
        const auto lane = lanes.find(key.lane);
        return lane != lanes.end() && (key.number < lane->second || key.number >= kForeignDead);
    }
};

/// Which dead letters; what is not set matches all.
struct DeadFilter {
    std::optional<DeadKind> kind{};
    std::optional<LaneId> lane{};
    std::string reason{};
    std::optional<DeadEnds> within{};
};
[[nodiscard]] inline bool matches(const DeadFilter& filter, const DeadLetter& letter) {
    return (!filter.kind || *filter.kind == letter.kind) &&
           (!filter.lane || *filter.lane == letter.lane) &&
           (filter.reason.empty() || filter.reason == letter.reason) &&
           (!filter.within || filter.within->contains(key_of(letter)));
}

/// One page of dead letters. Bounded by what is looked at, not only by what matches.
struct DeadQuery {
    DeadKey from{};  // this one or the first after it
    DeadFilter filter{};
    std::size_t letters_max = 100;
    Bytes bytes_max{1U << 20U};  // of the letters; one is returned even if it is larger
    std::size_t looked_at_max = 2000;
};
struct DeadPage {
    std::vector<DeadLetter> letters;  // by key
    std::optional<DeadKey> next;      // from where to go on; nullopt: that was all
    std::uint64_t damaged = 0;        // letters that could not be read
};

/// A dead letter to be put back as a record.
struct Revival {
    DeadKey key;
    std::string payload{};  // another event instead of the one kept; empty: as it was kept
};

/// The dead letters of accepted records, which are never evicted.
struct DeadUsage {
    std::uint64_t letters = 0;
    Bytes bytes;  // keys and values
    std::uint64_t letters_max = 0;
    Bytes bytes_max;
    bool operator==(const DeadUsage&) const = default;
    /// Whether one more of this size keeps to both limits. A single one may be larger than all the
    /// room there is, or its lane would never get past it.
    [[nodiscard]] bool has_room(Bytes letter) const noexcept {
        return letters < letters_max && (letters == 0 || bytes + letter <= bytes_max);
    }
};

/// The records of one segment, from the one asked for on.
struct RecordBatch {
    LaneId lane = kDefaultLane;
    Seq first_seq = 0;                   // of the first record below
    std::int64_t received_unix_ms = 0;   // of the segment
    std::string payload;                 // records, each followed by '\n'
    std::vector<std::uint32_t> offsets;  // count+1: record i is [offsets[i], offsets[i+1]-1)
    /// Indices of records below that have their outcome already; filled in by Settler::read().
    std::vector<std::uint32_t> settled;
    /// Records just before first_seq that could not be read: they are gone. Usually 0.
    std::uint64_t lost = 0;

    [[nodiscard]] std::size_t size() const noexcept {
        return offsets.empty() ? 0 : offsets.size() - 1;
    }
    [[nodiscard]] std::string_view record(std::size_t i) const {
        return std::string_view(payload).substr(offsets[i], offsets[i + 1] - offsets[i] - 1);
    }
};

/// A record that upstream fails on while it takes others. It has left the queue, keeps its number,
/// and is tried again when it is due.
struct DeferredRecord {
    Seq seq = 0;
    std::int64_t due_unix_ms = 0;
    std::int64_t received_unix_ms = 0;  // of its segment
    std::uint32_t failures = 0;         // attempts that failed
    std::string payload;                // the event
};
/// What is known of one without reading it.
struct DeferredEntry {
    Seq seq = 0;
    std::int64_t due_unix_ms = 0;
    std::int64_t received_unix_ms = 0;
    Bytes bytes;
    bool operator==(const DeferredEntry&) const = default;
};
/// Of all lanes together.
struct DeferredLimits {
    std::uint64_t records_max = 0;
    Bytes bytes_max;
};

/// A lane's records that are gone from the front of the queue, and how.
struct Ack {
    LaneId lane = kDefaultLane;
    Seq next = 0;                           // every record below is settled
    std::span<const DeadLetter> dead = {};  // written in the same batch; may lie at or above `next`
    /// Settled records at or above `next`, ascending. Replaces what the ack before said.
    std::span<const Seq> ahead = {};
    /// Written in the same batch; one of a number that is deferred already takes its place.
    std::span<const DeferredRecord> deferred = {};
    /// Deferred records that have their outcome, deleted in the same batch. Unknown ones are
    /// skipped.
    std::span<const Seq> deferred_ended = {};
    /// What who sends wants to find again after a restart; nullopt: what it said last. At most
    /// kMemoBytesMax, of no meaning here.
    std::optional<std::string_view> memo{};
};
inline constexpr std::size_t kMemoBytesMax = 4096;

struct LaneState {
    LaneId lane = kDefaultLane;
    std::string name;
    Seq next_settle = 1;     // the persisted cursor: the first record without an outcome
    Seq next_write = 1;      // the number the next accepted record gets
    std::vector<Seq> ahead;  // settled records at or above next_settle, ascending
    bool paused = false;     // Store::set_paused()
    /// By number. Usually their places in the queue are settled; where damage undid that, the copy
    /// here is the one that counts.
    std::vector<DeferredEntry> deferred;
    std::string memo;  // Ack::memo; "": none

    [[nodiscard]] std::uint64_t spooled() const noexcept {
        return next_write - next_settle - ahead.size() + deferred.size();
    }
};

/// A run to be made of ids that are in the log.
struct SealSpec {
    RunName name;
    std::int64_t oldest_ms = 0;  // of its ids, in time of the id clock
    std::int64_t newest_ms = 0;
    std::uint64_t log_end = 0;  // id_log_end() when the last of them was committed
    unsigned filter_bits = 16;  // an id
};

/// A run whose file is written and synced, but not part of the store yet.
struct NewRun {
    IdRun run;
    std::string file;
    std::uint64_t damaged_pages = 0;  // of merged runs: what they held is forgotten
};
/// Makes a run's file. Runs on the maintenance thread, while the store lives, whatever else the
/// storage thread does with it, except that it deletes none of the runs that a merge reads.
using RunJob = std::function<Result<NewRun>()>;

struct StoreStats {
    Bytes disk;         // the whole spool directory
    Bytes reserve;      // of it, what hold_reserve() set aside
    Bytes volume_free;  // statvfs f_bavail
    Bytes volume_size;  // statvfs f_blocks; 0: not known
    Bytes committed;    // what commits wrote, since the store was opened; never goes down
    std::uint64_t dead_letters = 0;
    std::vector<std::string> damaged;   // databases that were moved aside and not taken back
    std::vector<std::string> repaired;  // of which a repair left something; they may be deleted
};

/// Durable storage of segments, ids, cursors and dead letters. Thread: storage, every method.
class Store {
public:
    virtual ~Store() = default;

    /// The random salt of this spool, made with it (hash_id).
    [[nodiscard]] virtual std::uint64_t salt() const = 0;
    /// Every lane's cursors, also of lanes that are not configured any more. Numbers between them
    /// are in the spool, or in a hole that read() reports.
    [[nodiscard]] virtual std::vector<LaneState> lanes() const = 0;
    /// The number of the lane of this name, which is made durably when there is none. Errors:
    /// refused (no number is free: names and numbers are for ever); as commit(), then the lane may
    /// be there all the same, and asking again is safe.
    [[nodiscard]] virtual Result<LaneId> make_lane(std::string_view name) = 0;
    /// Remembers, durably, that an operator stopped sending from the lane, or goes on. Errors: as
    /// commit(); it may hold after a restart all the same.
    [[nodiscard]] virtual Result<void> set_paused(LaneId lane, bool paused) = 0;
    /// From now on the limits of these options hold (take_limits()).
    virtual void set_limits(const Options& options) = 0;
    /// Calls `sink` with every logged id that is in no run yet, oldest first, with its time of the
    /// id clock. Some may be in a run all the same.
    [[nodiscard]] virtual Result<void> replay_ids(
        const std::function<void(const IdHash&, std::int64_t id_clock_ms)>& sink) = 0;
    /// The id log entries that are in no run: from begin on; what was committed so far lies below
    /// end.
    [[nodiscard]] virtual std::uint64_t id_log_begin() const = 0;
    [[nodiscard]] virtual std::uint64_t id_log_end() const = 0;

    /// Every id run, by name. One that cannot be read is left out, and counted.
    [[nodiscard]] virtual std::vector<IdRun> id_runs() const = 0;
    /// Pages of runs that could not be read since the store was made; their ids are forgotten.
    [[nodiscard]] virtual std::uint64_t damaged_id_pages() const = 0;
    /// Which of `ids` are in a run. A page that cannot be read holds none: its events are accepted
    /// again, which costs less than refusing good ones.
    [[nodiscard]] virtual std::vector<bool> find_ids(std::span<const IdHash> ids) = 0;
    /// The job that makes a run of `ids`, which it may reorder and nobody else touches meanwhile.
    [[nodiscard]] virtual RunJob seal_job(const SealSpec& spec,
                                          std::shared_ptr<std::vector<IdHash>> ids) = 0;
    /// The job that merges runs into one of this name. Unknown ones are left out.
    [[nodiscard]] virtual RunJob merge_job(RunName name, std::span<const RunName> inputs,
                                           unsigned filter_bits) = 0;
    /// Makes the run part of the store, durably, in place of the log entries below its log_end and
    /// of the runs it replaces: in one step, whatever a crash leaves of them. After an error it may
    /// be there all the same: id_log_begin() tells once the store was opened again. Errors: as
    /// commit().
    [[nodiscard]] virtual Result<void> adopt_run(const NewRun& made) = 0;
    /// Forgets runs. Unknown ones are skipped. Errors: as commit().
    [[nodiscard]] virtual Result<void> drop_runs(std::span<const RunName> names) = 0;

    /// Makes the segments (at most one per lane), their ids and the admission dead letters durable,
    /// all or none; returns once they survive power loss. The records get the lane's next sequence
    /// numbers. Errors: spool_full, spool_busy (try the same again), spool_io, spool_reopen (call
    /// reopen() and try the same again), spool_corrupt. After a failed sync the batch may be there
    /// all the same: the retry is safe, it writes the same keys.
    [[nodiscard]] virtual Result<void> commit(std::span<const Segment> segments,
                                              std::span<const DeadLetter> rejected) = 0;

    /// The segment that holds `from`, from that record on, or, when that one cannot be read, the
    /// next that can, with `lost` set. Empty when nothing is stored at or after `from`. When the
    /// damage reaches the end, the batch has no records, first_seq = next_write and lost > 0.
    [[nodiscard]] virtual Result<RecordBatch> read(LaneId lane, Seq from) = 0;

    /// Moves the cursor, writes the dead letters and the deferred records in one batch, not synced:
    /// a crash may forget it, then the records are sent again. It becomes durable with the next
    /// commit() or sync().
    [[nodiscard]] virtual Result<void> ack(const Ack& ack) = 0;
    /// nullopt: there is none of this number, or it cannot be read. Errors: as classify().
    [[nodiscard]] virtual Result<std::optional<DeferredRecord>> read_deferred(LaneId lane,
                                                                              Seq seq) = 0;
    /// How much may be deferred. ack() is never refused for it: who defers asks first.
    [[nodiscard]] virtual DeferredLimits deferred_limits() const = 0;

    /// Puts dead letters of this lane (asserted) back at its end as records and deletes the
    /// letters, in one synced batch. Unknown ones, and those without an event, are skipped. Returns
    /// how many were put back. Errors: as commit(); after a failed sync it is undone before
    /// anything else is written.
    [[nodiscard]] virtual Result<std::uint64_t> replay(LaneId lane,
                                                       std::span<const Revival> letters) = 0;
    /// The dead letters that can be read, a page at a time. Errors: as classify().
    [[nodiscard]] virtual Result<DeadPage> read_dead(const DeadQuery& query) = 0;
    /// Deletes dead letters, synced. Unknown ones are skipped. Returns how many there were. After
    /// a failed sync they may be gone: the retry is safe. Errors: as commit().
    [[nodiscard]] virtual Result<std::uint64_t> purge_dead(std::span<const DeadKey> letters) = 0;
    /// What tells the dead letters of now from later ones.
    [[nodiscard]] virtual DeadEnds dead_ends() const = 0;
    /// How much room the dead letters of accepted records take. ack() is never refused for it: who
    /// sends must have room before it makes one (Settler::take_dead_room()).
    [[nodiscard]] virtual DeadUsage dead_usage() const = 0;

    /// Makes earlier acks durable.
    [[nodiscard]] virtual Result<void> sync() = 0;
    /// After spool_reopen: opens the same directory again. Cursors are re-read. Errors: spool_full,
    /// try again when there is space; spool_reopen.
    [[nodiscard]] virtual Result<void> reopen() = 0;
    [[nodiscard]] virtual StoreStats stats() = 0;
    /// Space that the lane's records take, settled ones that were not given back yet included.
    [[nodiscard]] virtual Bytes lane_bytes(LaneId lane) = 0;
    /// Sets this much of the volume aside, so that nobody else can take it; 0 gives it back, which
    /// works on a full volume. It survives the process. Errors: spool_full, spool_io; nothing is
    /// held then.
    [[nodiscard]] virtual Result<void> hold_reserve(Bytes wanted) = 0;
    /// Syncs and closes; the object is then only good for destruction.
    virtual void close() = 0;
};

}  // namespace opsrelay::spool
