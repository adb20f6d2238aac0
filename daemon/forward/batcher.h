// Which record goes next, and how many are held. Pure: the pump reads segments and sends records.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/event.h"
#include "core/units.h"
#include "forward/retry.h"
#include "spool/store.h"

namespace opsrelay::forward {

/// A record on its way. Copies share the bytes of the segment they came in.
struct Item {
    Seq seq = 0;
    unsigned failures = 0;  // attempts of this record that failed
    /// In a batch request it is one of at most so many: less once a larger one was refused whole.
    std::size_t company_max = std::numeric_limits<std::size_t>::max();
    std::int64_t received_unix_ms = 0;
    bool deferred = false;     // it has left the queue: not the batcher's
    std::string_view payload;  // into `segment`
    /// Shared: the payload must live as long as the last record of its segment is being sent. A
    /// stuck record has a batch of its own, so that its segment can go.
    std::shared_ptr<const spool::RecordBatch> segment;
};

/// Payload bytes of segments in memory above which no further one is read; of all lanes together,
/// but a lane has kHeldBytesMin at least.
inline constexpr Bytes kHeldBytesMax{8U << 20U};
inline constexpr Bytes kHeldBytesMin{1U << 20U};
/// Payload bytes of stuck records that are copied out of their segments; those beyond keep their
/// segment, which then counts as held. Shared as above.
inline constexpr Bytes kStuckBytesMax = kHeldBytesMax;
/// No record is sent that lies this far or more behind the oldest unsettled one: every ack carries
/// one bit for each record between (spool::Ack::ahead), 8 KiB at most.
inline constexpr std::size_t kSpanMax = std::size_t{64} << 10U;
/// Stuck records are tried one after the other with this much time between, until one passes.
inline constexpr seconds kStuckGap{1};

/// The records of one lane that were read and are not settled. Bounded in four ways: fewer than
/// `in_flight_max` records that are not stuck (kStuckFailures) have been handed out and are
/// unsettled, so that a crash repeats at most those and the stuck ones; they span less than
/// kSpanMax; a segment is asked for only when fewer than in_flight_max / 4 records are left to
/// send; and only while less than its share of kHeldBytesMax of payload is held. Thread: forward.
class Batcher {
public:
    Batcher(Seq first, std::size_t in_flight_max);

    /// The share of kHeldBytesMax and of kStuckBytesMax; all of it until this is called.
    void set_held_max(Bytes share) noexcept { held_max_ = share; }

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

    /// The next record to send: the oldest stuck one whose wait is over, once in kStuckGap; else
    /// the oldest other one to be sent again whose wait is over; else a fresh one.
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

    /// Forgets what lies below `end`, except what is being sent: that is `kept`, ascending. With
    /// something kept `end` may come nearer, so that the span stays below kSpanMax. Nothing below
    /// it is asked for any more. The caller settles it.
    struct Forgotten {
        Seq end = 0;
        std::vector<Seq> kept;
        bool nothing = false;  // there was nothing to forget
    };
    [[nodiscard]] Forgotten forget_below(Seq end);
    /// The end of those in front that were received before this; nullopt: the front was not.
    [[nodiscard]] std::optional<Seq> end_of_older(std::int64_t received_unix_ms) const noexcept;

    /// Nothing more can be handed out until a record is settled, however much the spool has: one of
    /// the bounds is reached.
    [[nodiscard]] bool exhausted() const noexcept;
    /// Nothing is held, and the spool had nothing more when it was last read.
    [[nodiscard]] bool drained() const noexcept { return caught_up_ && unsettled_ == 0; }
    [[nodiscard]] std::size_t unsettled() const noexcept { return unsettled_; }
    /// How many of the unsettled ones are stuck.
    [[nodiscard]] std::size_t stuck() const noexcept { return stuck_.size(); }
    /// How far the next fresh record lies behind the oldest unsettled one: the cost of an ack.
    [[nodiscard]] std::size_t span() const noexcept;
    /// Nothing fresh can be sent until the oldest stuck record is settled: kSpanMax or
    /// kHeldBytesMax is reached.
    [[nodiscard]] bool held_up() const noexcept;
    [[nodiscard]] Bytes held() const noexcept { return {held_bytes_}; }
    /// Segments that are remembered: at most twice those with an unsettled record.
    [[nodiscard]] std::size_t segments() const noexcept { return loaded_.size(); }
    /// Receive time of the oldest unsettled record held.
    [[nodiscard]] std::optional<std::int64_t> oldest_received_unix_ms() const noexcept;
    [[nodiscard]] std::optional<Seq> oldest_unsettled() const noexcept;

private:
    struct Loaded {
        Seq first = 0;
        std::size_t count = 0;
        std::size_t open = 0;        // unsettled records
        std::size_t first_open = 0;  // index of the oldest of them
        std::size_t needed = 0;      // those whose payload is in `segment`
        std::vector<bool> done;
        std::int64_t received_unix_ms = 0;
        std::size_t bytes = 0;
        std::shared_ptr<const spool::RecordBatch> segment;  // null once none is needed
    };
    struct Waiting {
        Item item;
        TimePoint due;
    };
    [[nodiscard]] bool has_fresh() const noexcept;
    [[nodiscard]] std::optional<Item> take_fresh();
    [[nodiscard]] Item take_again(Seq seq);
    /// The loaded segment that holds `seq` or, when none does, the first one after it.
    [[nodiscard]] std::deque<Loaded>::iterator at_or_after(Seq seq);
    [[nodiscard]] Loaded& find(Seq seq);
    void skip_settled();
    void note_stuck(Item& item);
    /// One record less needs its segment.
    void release(Loaded& loaded);
    void forget_done();

    std::size_t in_flight_max_;
    Bytes held_max_ = kHeldBytesMax;
    Seq next_read_;
    Seq next_fresh_;
    bool caught_up_ = false;
    bool noted_ = false;         // since the last read returned: its answer may be out of date
    std::deque<Loaded> loaded_;  // in order of seq; the front has an unsettled record
    std::size_t done_ = 0;       // those of them that have none
    std::map<Seq, Waiting> again_;
    std::set<std::pair<TimePoint, Seq>> due_;  // of again_: not known to be due yet
    std::set<Seq> ready_;                      // of again_: due, not stuck
    std::set<Seq> stuck_ready_;                // of again_: due, stuck
    TimePoint stuck_from_ = TimePoint::min();  // when next() may give a stuck record out
    std::map<Seq, std::size_t> stuck_;         // bytes copied out of the segment; 0: none
    std::uint64_t stuck_bytes_ = 0;
    std::size_t out_ = 0;    // handed out at least once, unsettled, not stuck
    std::size_t fresh_ = 0;  // read, never sent
    std::size_t unsettled_ = 0;
    std::uint64_t held_bytes_ = 0;
};

}  // namespace opsrelay::forward
