// The spool as the forward thread sees it: read the next records, say how each one ended. The state
// lives on the storage thread; every call hops there and back.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/event.h"
#include "observe/ledger.h"
#include "observe/tap.h"
#include "spool/dead_room.h"
#include "spool/deferred_book.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// How one record ended.
struct Settlement {
    Seq seq = 0;
    bool delivered = true;
    /// When not delivered, with room taken: `lane` and `seq` are filled in by settle().
    DeadLetter dead;
    /// Neither: it waits apart from the queue, or does so again; `seq` is filled in by settle().
    std::optional<DeferredRecord> later{};
    bool was_deferred = false;  // it came from take_due(), not from read()
};

/// Where sending from a lane begins.
struct LaneStart {
    Seq first = 1;        // its first record without an outcome
    bool paused = false;  // an operator stopped it
    DeferredView deferred{};
    std::string memo{};  // see Settler::settle()
};

/// Keeps, per lane, which records behind the cursor are settled already, persists both, and counts.
/// Acks are not synced: they ride on the next commit, or on flush_idle(). A crash forgets at most
/// what was settled since, which is then sent again.
class Settler {
public:
    /// `storage` is the executor of the thread that owns `store`; `totals` belongs to it too.
    Settler(asio::any_io_executor storage, Store& store, observe::StorageTotals& totals);
    Settler(const Settler&) = delete;
    Settler& operator=(const Settler&) = delete;

    /// Shows what is given up; outlives it. Before the threads run.
    void set_tap(observe::Tap* tap) noexcept { tap_ = tap; }

    // --- Forward thread ---

    /// Store::read(), with the records that are settled already marked in `settled`. Records that
    /// could not be read (`lost`) are counted as dropped and settled when this returns.
    [[nodiscard]] asio::awaitable<Result<RecordBatch>> read(LaneId lane, Seq from);
    struct Settled {
        /// False: the store refuses acks at the moment, and the ends are kept in memory and tried
        /// again with the next call. The caller bounds them: it starts nothing new while too many
        /// are unwritten.
        bool persisted = true;
        /// Records that there is no room to defer: they stay in the queue, nothing happened.
        std::vector<Seq> kept{};
        DeferredView deferred{};
    };
    /// Records the ends; each seq must have been read and not settled before (asserted). `memo`:
    /// what start_of() is to say from now on (Ack::memo), written with them.
    [[nodiscard]] asio::awaitable<Settled> settle(LaneId lane, std::vector<Settlement> ends,
                                                  std::optional<std::string> memo = {});
    /// Takes room for a dead letter until settle() has it; false: there is none, and the record
    /// must stay. What is taken and not needed goes back.
    [[nodiscard]] bool take_dead_room(const DeadLetter& letter);
    void give_back_dead_room(const DeadLetter& letter);
    /// What on_dead_usage() told of.
    void note_dead_usage(const DeadUsage& usage) { dead_room_.set(usage); }
    struct Due {
        std::optional<DeferredRecord> record{};  // nullopt: none is due
        DeferredView deferred{};
    };
    /// The deferred record that has been due longest. Until it is settled, or the next one is
    /// taken, it is not dropped. One that cannot be read is counted as dropped. Errors: as
    /// Store::read_deferred().
    [[nodiscard]] asio::awaitable<Result<Due>> take_due(LaneId lane, std::int64_t now_unix_ms);
    /// All deferred records of the lane are due now.
    [[nodiscard]] asio::awaitable<DeferredView> hasten(LaneId lane, std::int64_t now_unix_ms);
    /// Gives up what lies below `end` and has no outcome, deferred records included, except `kept`
    /// (ascending), which somebody is sending: counted as dropped, in one batch with the cursor.
    struct Dropped {
        std::uint64_t records = 0;
        bool persisted = true;  // as the result of settle()
        DeferredView deferred{};
    };
    [[nodiscard]] asio::awaitable<Dropped> drop(LaneId lane, Seq end, std::vector<Seq> kept,
                                                DropReason reason);
    /// Gives up deferred records that were received before this; counted as dropped. What
    /// take_due() gave last stays, unless it is `let_go`, which nobody is going to send.
    [[nodiscard]] asio::awaitable<Dropped> expire_deferred(LaneId lane,
                                                           std::int64_t received_unix_ms,
                                                           std::optional<Seq> let_go);
    /// Puts dead letters of these records back at the end of the lane (counted as replayed).
    [[nodiscard]] asio::awaitable<Result<std::uint64_t>> replay(LaneId lane, std::vector<Seq> dead);

    // --- Storage thread ---

    /// Before the threads run, too.
    [[nodiscard]] LaneStart start_of(LaneId lane) const;
    /// `tell` is called when the room for dead letters is used otherwise than by settle(), or the
    /// limits are others: to be handed to note_dead_usage() on the forward thread, in the same
    /// order as the results of settle(). Then lanes that wait for room may try. Before the threads
    /// run.
    void on_dead_usage(std::function<void(const DeadUsage&)> tell) {
        on_dead_usage_ = std::move(tell);
    }
    /// Adopts the cursors of the store: at start and after a reopen. Counts recovered records at
    /// start.
    void adopt(bool at_start);
    /// Records were committed to `lane`.
    void note_committed(LaneId lane, std::uint64_t count);
    /// Everything written so far is durable.
    void note_synced();
    /// Retries acks that the store refused, and syncs acks that have waited. Call about once a
    /// second. The first error of an ack or of the sync; the other lanes are served all the same.
    [[nodiscard]] Result<void> flush_idle();
    /// Store::replay(); what was put back is counted as replayed. Errors: as Store::ack(),
    /// replay().
    [[nodiscard]] Result<std::uint64_t> replay_here(LaneId lane, std::span<const Revival> letters);
    /// Store::dead_usage(), and the letters that the store has not taken yet.
    [[nodiscard]] DeadUsage dead_usage() const;
    /// Store::purge_dead().
    [[nodiscard]] Result<std::uint64_t> purge_dead(std::span<const DeadKey> letters);
    /// Gives up every record of a lane that nothing reads from, durably; counted as dropped. After
    /// an error they are given up all the same, in memory, and the ack is tried again.
    [[nodiscard]] Result<std::uint64_t> purge_lane(LaneId lane);
    /// Nobody sends from the lane any more.
    void note_unread(LaneId lane);
    /// As drop(), of a lane from which nobody sends.
    void drop_unread(LaneId lane, Seq end, DropReason reason);
    /// The end of the oldest eighth of the records in the queue; nullopt: there are none.
    [[nodiscard]] std::optional<Seq> oldest_part(LaneId lane) const;
    /// Store::make_lane(), set_paused(); start_of() knows of them.
    [[nodiscard]] Result<LaneId> make_lane(std::string_view name);
    [[nodiscard]] Result<void> set_paused(LaneId lane, bool paused);
    /// Every lane.
    [[nodiscard]] std::vector<LaneId> lanes() const;
    /// The number that the lane's next record gets.
    [[nodiscard]] Seq end(LaneId lane) const;
    /// As hasten(), and before all that is asked for later.
    void hasten_here(LaneId lane, std::int64_t now_unix_ms);
    /// Records below `end` without an outcome.
    struct Left {
        std::uint64_t records = 0;
        /// Of these, deferred ones that were tried since hasten(), or not meant by it.
        std::uint64_t resting = 0;
    };
    [[nodiscard]] Left left_below(LaneId lane, Seq end) const;
    [[nodiscard]] DeferredView deferred(LaneId lane) const;
    /// Durable records without an outcome, of all lanes; those that are deferred included.
    [[nodiscard]] std::uint64_t spooled() const noexcept;
    [[nodiscard]] std::uint64_t spooled(LaneId lane) const;

private:
    struct Lane {
        bool paused = false;
        Seq next = 1;  // the contiguous prefix ends before this one
        Seq next_write = 1;
        std::set<Seq> ahead;                    // settled records at or after `next`
        std::vector<DeadLetter> dead;           // not yet written
        std::vector<DeadLetter> dead_unsynced;  // written, but a reopen may lose them
        bool dirty = false;                     // the store has not taken the last ack
        bool unsynced = false;
        DeferredBook deferred;
        std::string memo;
        bool memo_changed = false;  // the store does not have it
        [[nodiscard]] std::uint64_t spooled() const noexcept {
            return next_write - next - ahead.size() + deferred.size();
        }
    };
    [[nodiscard]] Settled settle_here(LaneId lane, std::vector<Settlement>& ends,
                                      std::optional<std::string>& memo);
    void settle_place(Lane& lane, Seq seq);
    /// False: there is no room.
    [[nodiscard]] bool defer(Lane& lane, Settlement& end);
    [[nodiscard]] Result<Due> take_due_here(LaneId lane, std::int64_t now_unix_ms);
    Dropped drop_here(LaneId lane, Seq first, Seq end, const std::vector<Seq>& kept,
                      DropReason reason);
    void count_dropped(LaneId lane, DropReason reason, std::uint64_t records);
    [[nodiscard]] Dropped note_dropped(LaneId id, Lane& lane, std::uint64_t records,
                                       DropReason reason);
    void take_stock(LaneId lane, RecordBatch& batch);
    void advance(Lane& lane);
    Result<void> write_ack(LaneId id, Lane& lane);
    void tell_dead_usage();
    void note_settled_dead(const std::vector<Bytes>& letters);

    asio::any_io_executor storage_;
    observe::Tap* tap_ = nullptr;  // null: nobody can watch
    DeadRoom dead_room_;           // forward thread

    // Storage thread.
    Store& store_;
    observe::StorageTotals& totals_;
    std::map<LaneId, Lane> lanes_;
    std::function<void(const DeadUsage&)> on_dead_usage_;
    DeadUsage dead_told_;  // what the forward thread knows of, or is about to
};

}  // namespace opsrelay::spool
