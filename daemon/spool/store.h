// The seam to durable storage. RocksStore is the real one; MemStore in the tests is the simple one
// that can forget what was not synced.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/event.h"
#include "core/outcome.h"
#include "core/units.h"

namespace opsrelay::spool {

/// The events of one lane in one group commit, before they have sequence numbers.
/// Up to 512 KiB of payload, 8192 events, 1 s of receive time (spool/options.h).
struct Segment {
    LaneId lane = kDefaultLane;
    std::string payload;  // events, each followed by '\n'; an event contains no raw newline
    std::uint32_t count = 0;
    std::int64_t received_unix_ms = 0;  // of the first event
    std::vector<IdHash> ids;            // one an event, in order
};

enum class DeadKind : std::uint8_t {
    admission,  // rejected before acceptance
    upstream    // an accepted record that upstream refused for good
};

/// An event that will not be sent, kept with its reason.
struct DeadLetter {
    DeadKind kind = DeadKind::admission;
    LaneId lane = kDefaultLane;
    Seq seq = 0;  // upstream: the record's number. admission: ignored, the store numbers them
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

/// A lane's records that are gone from the front of the queue, and how.
struct Ack {
    LaneId lane = kDefaultLane;
    Seq next = 0;                           // every record below is settled
    std::span<const DeadLetter> dead = {};  // written in the same batch; may lie at or above `next`
    /// Settled records at or above `next`, ascending. Replaces what the ack before said.
    std::span<const Seq> ahead = {};
};

struct LaneState {
    LaneId lane = kDefaultLane;
    Seq next_settle = 1;     // the persisted cursor: the first record without an outcome
    Seq next_write = 1;      // the number the next accepted record gets
    std::vector<Seq> ahead;  // settled records at or above next_settle, ascending
};

struct StoreStats {
    Bytes disk;         // the whole spool directory
    Bytes volume_free;  // statvfs f_bavail
    Bytes volume_size;  // statvfs f_blocks; 0: not known
    std::uint64_t dead_letters = 0;
};

/// Durable storage of segments, ids, cursors and dead letters. Thread: storage, every method.
class Store {
public:
    virtual ~Store() = default;

    /// The random salt of this spool, made with it (hash_id).
    [[nodiscard]] virtual std::uint64_t salt() const = 0;
    /// Every lane's cursors. Numbers between them are in the spool, or in a hole that read()
    /// reports.
    [[nodiscard]] virtual std::vector<LaneState> lanes() const = 0;
    /// Calls `sink` with every logged id, oldest first, with its receive time.
    [[nodiscard]] virtual Result<void> replay_ids(
        const std::function<void(const IdHash&, std::int64_t unix_ms)>& sink) = 0;

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

    /// Moves the cursor and writes the dead letters in one batch, not synced: a crash may forget
    /// it, then the records are sent again. It becomes durable with the next commit() or sync().
    [[nodiscard]] virtual Result<void> ack(const Ack& ack) = 0;

    /// Puts the records of upstream dead letters back at the end of their lane and deletes the dead
    /// letters, in one synced batch. Unknown ones are skipped. Returns how many were put back.
    [[nodiscard]] virtual Result<std::uint64_t> replay(LaneId lane, std::span<const Seq> dead) = 0;

    /// Makes earlier acks durable.
    [[nodiscard]] virtual Result<void> sync() = 0;
    /// After spool_reopen: opens the same directory again. Cursors are re-read.
    [[nodiscard]] virtual Result<void> reopen() = 0;
    [[nodiscard]] virtual StoreStats stats() = 0;
    /// Syncs and closes; the object is then only good for destruction.
    virtual void close() = 0;
};

}  // namespace opsrelay::spool
