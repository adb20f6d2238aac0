// The one thing ingest and storage share: events that wait for the disk, bounded in bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "observe/ledger.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// What one group commit writes.
struct Group {
    std::vector<Segment> segments;  // at most one a lane
    std::vector<DeadLetter> rejected;
    std::uint64_t events = 0;
    Position last = 0;  // the position of the last event, or of the one before when there is none
};

/// What ingest hands over at a time: the fresh events of one lane from one burst, and its counts.
/// Cleared, with its capacity kept, by push().
struct Burst {
    Segment segment;
    std::vector<DeadLetter> rejected;
    Position last = 0;
    observe::IntakeTotals totals;  // of the process so far
};

/// Byte-bounded queue of groups. Bursts are merged into the last group while it has room
/// (spool/options.h), so storage takes whatever gathered while it was busy: natural batching.
/// The lock is taken once a burst and once a commit.
class SegmentQueue {
public:
    explicit SegmentQueue(Bytes capacity) : capacity_(capacity) {}
    SegmentQueue(const SegmentQueue&) = delete;
    SegmentQueue& operator=(const SegmentQueue&) = delete;

    // --- Ingest ---

    /// Appends the burst and publishes its counts. True when storage waits and must be woken.
    [[nodiscard]] bool push(Burst& burst);

    // --- Any thread ---

    /// False while the bytes waiting reach the capacity. A burst may go over it by its own size.
    [[nodiscard]] bool has_room() const noexcept {
        return bytes_.load(std::memory_order_relaxed) < capacity_.count;
    }
    /// What waits, in bytes.
    [[nodiscard]] Bytes held() const noexcept {
        return Bytes{bytes_.load(std::memory_order_relaxed)};
    }
    /// Set by storage when the spool is (not) full; ingest asks before it accepts.
    void set_spool_open(bool open) noexcept { spool_open_.store(open); }
    [[nodiscard]] bool spool_open() const noexcept { return spool_open_.load(); }

    // --- Storage ---

    /// The oldest group, or nullopt: then the next push() answers true.
    [[nodiscard]] std::optional<Group> take();
    /// Takes the memory of a group that is done with, for events that are still to come.
    void recycle(Group group);
    struct Snapshot {
        observe::IntakeTotals totals;
        std::uint64_t events = 0;  // waiting in the queue
    };
    /// Totals and queue as of the same burst.
    [[nodiscard]] Snapshot snapshot() const;
    /// The position of the last event that waits; 0: none does.
    [[nodiscard]] Position newest() const;

private:
    void merge(Burst& burst);
    [[nodiscard]] static std::uint64_t weight(const Segment& segment,
                                              const std::vector<DeadLetter>& rejected) noexcept;

    // Constant after construction.
    const Bytes capacity_;
    // Any thread.
    std::atomic<std::uint64_t> bytes_{0};
    std::atomic<bool> spool_open_{true};
    // Protected by mutex_.
    mutable std::mutex mutex_;
    std::deque<Group> groups_;
    std::vector<Segment> spare_;  // empty, with capacity; at most kSparesMax
    observe::IntakeTotals totals_;
    bool storage_waits_ = true;
};

}  // namespace opsrelay::spool
