// Carries records from the spool to the upstream: reads ahead, sends what the lane permits, settles
// the ends. Decides nothing itself: Batcher says which record, Lane says when, classify() says what
// a reply means. One Pump per lane.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/event.h"
#include "core/log.h"
#include "core/plan_state.h"
#include "core/random.h"
#include "core/signal.h"
#include "core/task_group.h"
#include "core/units.h"
#include "forward/batcher.h"
#include "forward/concurrency.h"
#include "forward/lane.h"
#include "forward/late.h"
#include "forward/options.h"
#include "forward/plan_gauges.h"
#include "forward/upstream.h"
#include "observe/metrics.h"
#include "observe/tap.h"
#include "spool/settler.h"

namespace opsrelay::forward {

/// A lane as /status shows it.
struct LaneStatus {
    LaneId lane = kDefaultLane;
    std::string name;
    LaneState state = LaneState::no_key;
    WallTime since;
    std::optional<WallTime> retry_at;
    std::string
        last_error;  // of the last attempt that failed; "" when none did. No payload, no key
    std::size_t in_flight = 0;
    std::size_t concurrency = 0;  // requests that may be in flight now
    /// Receive time of the oldest record in memory; nullopt: none is waiting to be sent.
    std::optional<std::int64_t> oldest_received_unix_ms;
    LateCounts late;  // of this process
};

/// Thread: forward, except status(). `settler`, `upstream`, `registry` and `plan` outlive it;
/// stop() has returned before it is destroyed.
class Pump {
public:
    Pump(asio::any_io_executor forward, Clock& clock, Rng& rng, spool::Settler& settler,
         Upstream& upstream, const Options& options, LaneName lane, observe::Registry& registry,
         PlanState& plan);
    Pump(const Pump&) = delete;
    Pump& operator=(const Pump&) = delete;

    /// Begins at the lane's first unsettled record (Settler::start_of()). Without a key nothing is
    /// sent until set_key().
    void start(const spool::LaneStart& from);
    /// Gives up the records below `end` that are not being sent, as soon as the spool has settled
    /// what ended before. Asked for more while that waits, it gives up the more.
    void drop_below(Seq end, DropReason reason);
    /// Records were committed to this lane.
    void notify_records();
    /// The key for later requests; empty: none. Takes effect at once, also in a lane that waits for
    /// it.
    void set_key(const Secret& key);
    /// Asked before each probe of a lane that another key may help: a key that is another one than
    /// before, if there is one. A watched file may change unseen, a probe must not miss it.
    void set_key_source(std::function<std::optional<Secret>()> source);
    /// Shows what becomes of records; outlives it. Before start().
    void set_tap(observe::Tap* tap) noexcept { tap_ = tap; }
    /// There may be room for dead letters again (Settler::on_dead_usage()).
    void note_dead_room();
    /// Whether an operator stopped the lane; Settler::set_paused() remembers it.
    void set_paused(bool paused);
    /// Tries now instead of waiting out its own backoff or pause, once.
    void skip_wait();
    /// Reads workspace-status for a client, unless the lane is to leave upstream alone at present;
    /// `done` is called at the end, from within when nothing is asked. PlanState has the answer.
    void ask_status(std::function<void()> done);
    /// spool.max_age: older records are given up; 0: never.
    void set_max_age(milliseconds age);
    /// What the pump of this lane before this one was told to wait (told_to_wait()); before the
    /// key.
    void keep_wait(TimePoint until) { lane_.keep_wait(until); }
    /// Until when upstream asked to be left alone; nullopt: it did not.
    [[nodiscard]] std::optional<TimePoint> told_to_wait() const { return lane_.told_to_wait(); }
    /// Where it sends to.
    [[nodiscard]] const std::string& url() const noexcept { return options_.url; }
    /// Its share of the memory for records that wait (Batcher).
    void set_held_max(Bytes share);
    /// Sends nothing new, lets requests in flight finish until `deadline`, then cancels them, and
    /// settles what came back. Unsent records stay spooled. Waits for the storage thread.
    [[nodiscard]] asio::awaitable<void> stop(TimePoint deadline);
    /// For a spool that does not outlive the process: delivers until it is empty (true) or until
    /// `deadline`. A parked lane gets one last try and is not waited for. Follow with stop().
    [[nodiscard]] asio::awaitable<bool> drain_until(TimePoint deadline);
    /// After stop(): the lane's metrics say nothing any more.
    void clear_metrics();
    /// Every record that is known of has its outcome, on disk or on its way there.
    [[nodiscard]] bool all_settled() const noexcept;

    [[nodiscard]] const LaneName& lane() const noexcept { return name_; }
    /// Any thread. A snapshot, renewed when something happens to the lane.
    [[nodiscard]] LaneStatus status() const;

private:
    [[nodiscard]] Moment moment() const { return {clock_.now(), clock_.wall_now()}; }

    void try_now();
    void ask_for_key();
    asio::awaitable<void> dispatch_loop();
    asio::awaitable<void> read_loop();
    asio::awaitable<void> settle_loop();
    asio::awaitable<void> defer_loop();
    asio::awaitable<void> watch_loop();
    /// What may be sent now, in one request: one record, or several of kind batch.
    struct Work {
        std::vector<Item> items;
        Ticket ticket;
        TimePoint sent{};
    };
    /// The next one; nullopt: `until` says when there may be more to do.
    [[nodiscard]] std::optional<Work> next_work(TimePoint& until);
    /// Starts what the lane permits; returns when there may be more to do.
    [[nodiscard]] TimePoint dispatch();
    /// After a reply or a settlement: starts what the lane permits now, and wakes the loops that
    /// have something to do. Most replies wake none.
    void go_on();
    /// Of kind batch: whether what was gathered is to go now; else `until` says when.
    [[nodiscard]] bool gather(TimePoint now, TimePoint& until);
    /// What was gathered is to be chosen from again.
    void scatter();
    /// The record that is to be sent now, by itself.
    [[nodiscard]] std::optional<Item> choose(Action action, TimePoint& until);
    /// The deferred record that is due, if it is not being sent.
    [[nodiscard]] std::optional<Item> take_deferred();
    /// It waits apart from the queue, or does so again; `delay` at least.
    void defer(Item item, milliseconds delay, Moment at);
    /// What became of those in moving_, once the spool knows. Those that stay are not `settled`.
    void note_moved(std::vector<Seq>& settled, const spool::Settler::Settled& result);
    void note_deferred(const spool::DeferredView& view);
    /// When the next deferred record is due, or to be looked for; max(): there is none.
    [[nodiscard]] TimePoint deferred_due() const;
    /// When it is to be taken; max(): not before something changes.
    [[nodiscard]] TimePoint next_deferred() const;
    /// As all_settled(), deferred records left out.
    [[nodiscard]] bool queue_settled() const noexcept;
    asio::awaitable<void> hasten_deferred();
    asio::awaitable<void> expire_deferred();
    asio::awaitable<void> send(Work work);
    /// It says nothing about upstream, and is sent again as soon as the lane permits.
    void take_back(Work work);
    asio::awaitable<void> check_status(Ticket ticket);
    asio::awaitable<void> read_status(std::function<void()> done);
    /// A reply to workspace-status: what it says is kept, if it can be read.
    [[nodiscard]] WorkspaceStatus take_status(const Reply& reply, TimePoint began);
    asio::awaitable<void> settle_ends();
    asio::awaitable<void> put_back_dead_letters();
    asio::awaitable<void> drop_records();
    void drop_expired();
    asio::awaitable<void> expire_loop();
    /// The spool has not stored more ends than may be sent again after a crash: send nothing.
    [[nodiscard]] bool storage_lags() const noexcept;

    void on_reply(Work work, const Reply& reply);
    void on_batch_reply(Work work, const Reply& reply);
    /// As many requests may be in flight as upstream's connections carry at present.
    void follow_pipelining();
    /// What the reply to a request sent at `sent`, still in flight, says about upstream's load.
    void note_load(Load load, TimePoint sent);
    /// One reply, which holds for everything that was sent.
    void take_whole(Work work, const Reply& reply, Decision decision, Moment at);
    /// Sends the two halves of it by themselves: an event in it, or its size, is to blame.
    void split(Work work, const Reply& reply, Moment at);
    /// The dead letter that a refused record may become, with room taken for it; nullopt: it was
    /// not refused, or there is no room.
    [[nodiscard]] std::optional<spool::DeadLetter> prepare_letter(const Item& item,
                                                                  const Reply& reply,
                                                                  Verdict verdict, Moment at);
    void take_effect(Item item, const Reply& reply, const Effect& effect, Verdict verdict,
                     std::optional<spool::DeadLetter> letter, Moment at);
    /// To those who watch.
    void show(const Item& item, const Reply& reply, Fate fate) const;
    /// It has failed so often, beside others that passed, that it leaves the queue.
    [[nodiscard]] bool is_stuck(const Item& item) const;
    /// It is to be sent again: a deferred record as soon as the lane permits, any other from `due`
    /// on.
    void put_back(Item item, TimePoint due);
    void count_request(const Reply& reply, TimePoint began);
    void update_plan(const PlanUpdate& update);
    void set_plan(PlanFields fields);
    /// Logs and exports what happened to the lane since the last call.
    void note_lane();
    void wake_all();
    /// Ends that are settled at once, however short ago the last ones were.
    [[nodiscard]] std::size_t settle_group() const noexcept;
    [[nodiscard]] TimePoint settle_due() const noexcept;
    /// The lane's state, unless it is what was logged last or the line is held back.
    void log_state();
    void log_put_back(std::uint64_t events);
    void log_stall(nanoseconds stalled);
    void log_failure(Verdict verdict);
    void log_rejection(Seq seq, const Reply& reply);
    void log_no_key();
    void log_read_failure(const Error& error, Seq from, TimePoint due);
    void log_put_back_failure(const Error& error, std::size_t events);
    void log_storage_lag();
    void log_stuck(const Item& item);
    void log_deferred(const Item& item, milliseconds wait);
    void log_split(const Reply& reply, std::size_t events, Bytes bytes);
    void log_held_up();
    void log_concurrency(Concurrency::Change change, std::size_t before);
    void log_pipelining(const Pipelining& now, unsigned was);
    void log_drop(DropReason reason, std::uint64_t records);
    void publish();
    void publish_refusal();

    // Storage that refused an ack, or to put dead letters back, is asked again this much later.
    static constexpr milliseconds kStorageRetry{1000};

    Clock& clock_;
    Rng& rng_;
    spool::Settler& settler_;
    Upstream& upstream_;
    PlanState& plan_;
    observe::Registry& registry_;
    observe::Tap* tap_ = nullptr;  // null: nobody can watch
    const Options options_;
    const LaneName name_;
    milliseconds max_age_{0};
    Bytes held_max_ = kHeldBytesMax;
    bool expiring_ = false;  // expire_loop() runs

    Lane lane_;
    Concurrency concurrency_;
    unsigned depth_ = 0;  // requests that one connection carries; 0: not asked yet
    Batcher batcher_;
    std::vector<Item> gathered_;  // for the next batch
    Bytes gathered_bytes_;
    TimePoint gathered_until_{};
    Bytes batch_bytes_max_;  // as configured, or less: upstream refused a larger one
    Backoff read_backoff_;
    Backoff put_back_backoff_;
    Signal changed_;     // the lane, or what it may send: dispatch_loop(), drain_until()
    Signal readable_;    // there may be something to read: read_loop()
    Signal settleable_;  // there are ends: settle_loop()
    Signal deferrable_;  // what waits apart has changed: defer_loop()
    TaskGroup sends_;
    TaskGroup loops_;
    TaskGroup timers_;  // ends when cancelled
    log::Throttle change_throttle_;
    log::Throttle outage_throttle_;

    std::function<std::optional<Secret>()> key_source_;
    bool stopping_ = false;                      // nothing new is sent or read
    bool draining_ = false;                      // drain_until() wants to hear of every step
    TimePoint dispatch_due_ = TimePoint::min();  // when dispatch_loop() looks again by itself
    bool finishing_ = false;  // no request is in flight any more: settle what is left and end
    bool aborting_ = false;   // replies that come now are the cancellation's
    LaneState shown_ = LaneState::no_key;   // in status and metrics
    LaneState logged_ = LaneState::no_key;  // differs while its line is held back
    std::string last_error_;
    PlanFields plan_fields_;
    TimePoint progress_at_{};  // last settlement, or the last moment without anything to send
    bool settling_ = false;
    /// On their way out of the queue: they come back where there is no room for them. Bounded by
    /// the records in flight.
    struct Moving {
        Item item;
        TimePoint due;      // if it comes back
        milliseconds wait;  // if not
    };
    std::map<Seq, Moving> moving_;
    spool::DeferredView deferred_;         // as the spool said last
    TimePoint deferred_gap_{};             // none is taken before this
    std::optional<Seq> trying_;            // the one that was taken and has not been settled since
    std::optional<Item> due_;              // the same, unless it is being sent
    std::vector<spool::Settlement> ends_;  // not yet settled; bounded by the records in flight
    std::optional<std::string> memo_;      // what the spool is to remember (plan_memo.h)
    bool ends_told_ = false;               // settle_loop() knows that there are some
    TimePoint settled_at_{};               // when the last ones were
    std::size_t unpersisted_ = 0;          // ends that the spool keeps in memory only
    TimePoint persist_due_{};              // when it is asked to store them again
    struct Drop {
        Seq end = 0;
        DropReason reason = DropReason::oldest;
    };
    std::optional<Drop> drop_;   // what is to be given up
    std::vector<Seq> put_back_;  // dead letters to return to the spool
    TimePoint put_back_due_{};   // not before this
    bool no_key_known_ = false;  // that there is no key was logged, or there was one

    std::map<std::string, observe::Counter*, std::less<>> requests_;  // by code: at most 1000
    int last_status_ = 0;                                             // of the last complete reply
    observe::Counter* last_counter_ = nullptr;                        // its counter
    std::array<observe::Counter*, kVerdicts.size()> retries_{};
    std::array<observe::Gauge*, kLaneStates.size()> states_{};
    LateCounter late_;
    PlanGauges plan_gauges_;
    observe::Gauge& retry_at_gauge_;
    observe::Gauge& concurrency_gauge_;
    observe::Gauge& depth_gauge_;
    observe::Histogram& seconds_;

    // Any thread.
    std::atomic<std::size_t> in_flight_{0};
    std::atomic<std::int64_t> oldest_received_unix_ms_{0};  // 0: none
    mutable std::mutex status_mutex_;
    LaneStatus status_;  // written under status_mutex_ by the forward thread; all but the two above
};

}  // namespace opsrelay::forward
