// The state machine of one lane: what it may send now, and what a reply changes. Pure: the pump
// asks, sends and reports back. What follows what is in lane_table.h.
//
// An operator's pause lies over all of them: nothing is sent, replies under way still count, and
// when it ends the state below shows again, with its wait.
//
// The breaker opens at the second failure in a row, at the first one before any delivery, and at
// any reply with Retry-After; a lone failure among deliveries is the record's own matter, and so is
// every failure of a stuck record (kStuckFailures) once something was delivered since the recovery.
// A reply that is not the API's counts as such a failure, since filters in front of it refuse
// single events in this way. Every state but active lets exactly one request out at a time, when
// its wait is over. After a recovery the number of requests in flight is 1, then doubles up to
// Options::connections.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/event.h"
#include "core/random.h"
#include "forward/lane_table.h"
#include "forward/options.h"
#include "forward/retry.h"

namespace opsrelay::forward {

/// What an operator is told about a state: what happens next, and what to do about it. `lane` is
/// the lane's name.
[[nodiscard]] std::string what_next(LaneState state, std::string_view lane);

/// Both clocks at one moment.
struct Moment {
    TimePoint now;
    WallTime wall;
};

enum class Action : std::uint8_t {
    start,         // send any record
    probe,         // send one record; it decides whether the lane recovers
    check_status,  // read workspace-status
    wait,          // nothing before `until`; TimePoint::max(): until a reply or a key
};
struct Permit {
    Action action = Action::wait;
    TimePoint until = TimePoint::max();
};

/// One request in flight. A reply whose epoch is over says nothing about the lane's present state.
struct Ticket {
    std::uint64_t number = 0;
    std::uint64_t epoch = 0;
};

/// What became of the record.
enum class Fate : std::uint8_t {
    delivered,
    dead_letter,
    again  // it stays in the spool and is sent again
};
struct Effect {
    Fate fate = Fate::again;
    bool failed = false;          // counts as a failed attempt of this record
    milliseconds delay{0};        // the record, not the lane, waits this long
    std::vector<Seq> put_back{};  // dead letters to return to the spool: they were not to blame
};

/// The record a reply is about.
struct Attempt {
    Seq seq = 0;
    std::uint64_t content_hash = 0;  // used only when the reply is a rejection
    unsigned failures = 0;           // of this record so far
    bool dead_room = true;           // it may become a dead letter: there is room for it
};

/// A reply to one event of a batch.
struct Judged {
    Attempt attempt;
    Decision decision;
    std::string cause;
};

/// This many rejections of distinct events with no delivery between them: upstream (or what stands
/// in its place) refuses everything, and the events are not to blame.
inline constexpr std::size_t kRejectionsInRowMax = 10;

/// Thread: forward.
class Lane {
public:
    Lane(LaneId id, const Options& options, Rng& rng, Moment start);

    /// What may be done now. Changes nothing: begin() does.
    [[nodiscard]] Permit next(TimePoint now) const;
    /// Claims what next() offered; each ticket ends in exactly one of the five calls below.
    [[nodiscard]] Ticket begin(Action action);

    /// A reply to an event (or its failure).
    [[nodiscard]] Effect on_reply(Ticket ticket, const Attempt& attempt, const Decision& decision,
                                  std::string_view cause, Moment at);
    /// A reply to a batch, whose events ended each in its own way; the effects are in their order.
    /// For the lane the request counts once: as a delivery when it delivered anything, and as a
    /// failure of the worst kind that it holds.
    [[nodiscard]] std::vector<Effect> on_batch(Ticket ticket, std::span<const Judged> events,
                                               Moment at);
    /// A reply to workspace-status.
    void on_status(Ticket ticket, const WorkspaceStatus& status, Moment at);
    /// The request was given up by us: says nothing about upstream.
    void on_abandoned(Ticket ticket);

    /// The key changed; false: there is none. Wakes unauthorized, misconfigured, plan_limited and
    /// budget_stopped lanes at once (another key may be another workspace).
    void on_key(bool has_key, Moment at);
    /// There may be room for a dead letter. Wakes a lane that waits for it at once.
    void on_dead_room(Moment at);
    /// One last try before shutdown: whatever the lane waits for, it probes now.
    void try_now(Moment at);
    /// The same, but a wait that upstream asked for (Retry-After) is kept.
    void skip_wait(Moment at);
    void on_paused(bool paused, Moment at);
    /// Requests that may be in flight; at least 1. It begins with Options::connections.
    void set_most(std::size_t requests) noexcept;
    /// What upstream asked the lane of this name to wait, before it was made anew: the first key
    /// does not end it.
    void keep_wait(TimePoint until) noexcept { kept_wait_ = until; }
    /// Until when upstream asked to be left alone; nullopt: it did not.
    [[nodiscard]] std::optional<TimePoint> told_to_wait() const noexcept;

    [[nodiscard]] LaneId id() const noexcept { return id_; }
    [[nodiscard]] LaneState state() const noexcept { return paused_ ? LaneState::paused : state_; }
    [[nodiscard]] WallTime since() const noexcept { return paused_ ? paused_since_ : since_; }
    /// When the next attempt is due; nullopt while active, paused, without a key, without room for
    /// dead letters, or while it is under way.
    [[nodiscard]] std::optional<TimePoint> retry_at() const noexcept;
    /// Waits for a human or a calendar rather than for a server to come back.
    [[nodiscard]] bool parked() const noexcept;
    [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
    /// Requests that may be in flight while active.
    [[nodiscard]] std::size_t window() const noexcept { return window_; }
    /// Upstream took something since the lane became active.
    [[nodiscard]] bool proven() const noexcept { return proven_; }
    /// Why the lane is not active; "" while it is.
    [[nodiscard]] std::string_view cause() const noexcept {
        return paused_ ? std::string_view("an operator paused it") : cause_;
    }

private:
    void end(Ticket ticket);
    void enter(LaneState state, std::string_view cause, Moment at);
    void activate(Moment at);
    void begin_sending(Moment at);
    void on_event(LaneEvent event, Moment at, std::optional<WallTime> period_end = {});
    /// Sets the wait of the state just entered, or entered again after a failed probe.
    void arm(const Decision& decision, Moment at);
    [[nodiscard]] milliseconds slow_probe_delay();
    void limit_wait(std::optional<WallTime> period_end, Moment at);
    [[nodiscard]] Effect on_delivered(bool current, Moment at);
    [[nodiscard]] Effect judge(bool current, const Attempt& attempt, const Decision& decision,
                               std::string_view cause, Moment at);
    void note_delivered(bool current);
    [[nodiscard]] Effect on_rejected(bool current, const Attempt& attempt, std::string_view cause,
                                     Moment at);
    [[nodiscard]] Effect on_doubt(bool current, Moment at);
    [[nodiscard]] Effect on_failure(bool current, const Attempt& attempt, const Decision& decision,
                                    std::string_view cause, Moment at);
    /// A failure of a lane that is active: whether it is the record's own matter.
    [[nodiscard]] bool blames_record(const Attempt& attempt, const Decision& decision);
    [[nodiscard]] bool blames_event(std::uint64_t content_hash) const;

    LaneId id_;
    std::size_t most_;  // requests in flight
    Rng& rng_;
    Backoff backoff_;         // of the lane
    Backoff record_backoff_;  // of single records while their neighbours pass

    LaneState state_ = LaneState::no_key;  // never paused
    bool paused_ = false;
    WallTime paused_since_;
    WallTime since_;
    std::string cause_;
    TimePoint retry_at_ = TimePoint::max();
    unsigned slow_probes_ = 0;     // unauthorized, misconfigured: since the lane was last active
    bool told_to_wait_ = false;    // retry_at_ is upstream's wish
    TimePoint kept_wait_{};        // of the lane before this one
    bool learn_period_ = false;    // read workspace-status once, to learn when the period ends
    bool probe_by_event_ = false;  // plan_limited: workspace-status was no help

    std::uint64_t epoch_ = 1;
    std::uint64_t last_ticket_ = 0;
    std::size_t in_flight_ = 0;
    std::size_t in_flight_now_ = 0;  // of this epoch
    std::uint64_t probe_ = 0;        // ticket of the probe or status request; 0: none
    bool asking_ = false;            // it is a status request

    std::size_t window_ = 1;
    std::size_t delivered_in_round_ = 0;
    bool proven_ = false;  // a delivery since the lane became active
    unsigned failures_in_row_ = 0;

    struct Rejected {
        Seq seq;
        std::uint64_t content_hash;
    };
    std::vector<Rejected> rejected_in_row_;
    std::deque<std::uint64_t> put_back_before_;  // their content; bounded
};

}  // namespace opsrelay::forward
