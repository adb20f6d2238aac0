// Which record goes next, and how many are held. Pure: the pump reads segments and sends records.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/event.h"
#include "core/units.h"
#include "spool/store.h"

namespace opsrelay::forward {

/// A record on its way. Copies share the bytes of the segment they came in.
struct Item {
    Seq seq = 0;
    unsigned failures = 0;  // attempts of this record that failed
    std::int64_t received_unix_ms = 0;
    std::string_view payload;  // into `segment`
    /// Shared: the payload must live as long as the last record of its segment is being sent.
    std::shared_ptr<const spool::RecordBatch> segment;
};

/// Payload bytes of segments in memory above which no further one is read.
inline constexpr Bytes kHeldBytesMax{8U << 20U};

/// The records of one lane that were read and are not settled. Bounded three ways: no record is
/// sent that lies `in_flight_max` or more behind the oldest unsettled one (so a crash repeats at
/// most that many); a segment is asked for only when fewer than in_flight_max / 4 records are left
/// to send, and only while less than kHeldBytesMax of payload is held. Thread: forward.
class Batcher {
public:
    Batcher(Seq first, std::size_t in_flight_max);

    /// Where to read next, when it is time to.
    [[nodiscard]] std::optional<Seq> want_read() const;
    /// The answer to that read: its records are to be sent. An empty batch: nothing is there yet,
    /// ask again after note_records().
    void on_read(spool::RecordBatch batch);
    /// New records may be in the spool.
    void note_records() noexcept {
        caught_up_ = false;
        noted_ = true;
    }

    /// The next record to send: the oldest one to be sent again whose wait is over, else a fresh
    /// one.
    [[nodiscard]] std::optional<Item> next(TimePoint now);
    /// The record to probe with: the one that failed least often, oldest first, so that a single
    /// bad record cannot hold the lane. Its wait does not count.
    [[nodiscard]] std::optional<Item> next_probe();
    /// When the first waiting record becomes due; TimePoint::max(): none waits.
    [[nodiscard]] TimePoint next_due() const noexcept;
    /// Returns a record that next() or next_probe() gave out; it may be sent from `due` on.
    void put_back(Item item, TimePoint due);
    /// The record has its outcome.
    void settled(Seq seq);

    /// Nothing is held, and the spool had nothing more when it was last read.
    [[nodiscard]] bool drained() const noexcept { return caught_up_ && unsettled_ == 0; }
    /// A record could be sent, now or later, without another read.
    [[nodiscard]] bool has_unsent() const noexcept { return !again_.empty() || has_fresh(); }
    [[nodiscard]] std::size_t unsettled() const noexcept { return unsettled_; }
    [[nodiscard]] Bytes held() const noexcept { return {held_bytes_}; }
    /// Receive time of the oldest unsettled record held.
    [[nodiscard]] std::optional<std::int64_t> oldest_received_unix_ms() const noexcept;
    [[nodiscard]] std::optional<Seq> oldest_unsettled() const noexcept;

private:
    struct Loaded {
        Seq first = 0;
        std::size_t count = 0;
        std::size_t open = 0;        // unsettled records
        std::size_t first_open = 0;  // index of the oldest of them
        std::vector<bool> done;
        std::int64_t received_unix_ms = 0;
        std::size_t bytes = 0;
        std::shared_ptr<const spool::RecordBatch> segment;  // null once all are settled
    };
    struct Waiting {
        Item item;
        TimePoint due;
    };
    [[nodiscard]] bool has_fresh() const noexcept;
    [[nodiscard]] std::optional<Item> take_fresh();
    [[nodiscard]] Loaded* find(Seq seq);
    /// Moves next_fresh_ over lost records between two segments.
    void skip_settled();

    std::size_t in_flight_max_;
    Seq next_read_;
    Seq next_fresh_;
    bool caught_up_ = false;
    bool noted_ = false;         // since the last read returned: its answer may be out of date
    std::deque<Loaded> loaded_;  // in order of seq; the front has an unsettled record
    std::map<Seq, Waiting> again_;
    std::size_t fresh_ = 0;  // read, never sent
    std::size_t unsettled_ = 0;
    std::uint64_t held_bytes_ = 0;
};

}  // namespace opsrelay::forward
