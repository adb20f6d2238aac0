#include "forward/lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/assert.h"

namespace opsrelay::forward {

namespace {

constexpr unsigned kFailuresToOpen = 2;
constexpr milliseconds kThrottleMin{1000};
constexpr milliseconds kPauseMin = minutes{10};
constexpr milliseconds kPauseMax = minutes{15};
constexpr milliseconds kSlowProbeMin = minutes{1};
constexpr milliseconds kSlowProbeMax = minutes{15};
// periodEnd is the last second of a period (23:59:59Z): the next one begins a second later.
constexpr seconds kAfterPeriodEnd{1};
constexpr std::size_t kPutBackRemembered = 1000;

bool asks_to_wait(const Decision& decision) {
    return decision.retry_after && *decision.retry_after > milliseconds{0};
}

}  // namespace

std::string what_next(LaneState state, std::string_view lane) {
    const bool named = lane != LaneName{}.name;
    const auto section = named ? fmt::format("lanes.{}", lane) : std::string("upstream");
    switch (state) {
        case LaneState::active: return "sending, one request at a time at first";
        case LaneState::backing_off:
        case LaneState::throttled:
        case LaneState::budget_stopped: return "events are spooled; then one is sent as a probe";
        case LaneState::plan_limited:
            return "events are spooled; then workspace-status is read again";
        case LaneState::unauthorized:
            return "events are spooled; put a valid key into the API key file: a change is tried "
                   "at "
                   "once, else one event is sent as a probe";
        case LaneState::misconfigured:
            return fmt::format(
                "events are spooled; check {0}.url and {0}.path: what answers there is not the "
                "API, or refuses every event; one is sent as a probe",
                section);
        case LaneState::no_key:
            return fmt::format(
                "events are spooled; put the workspace's API key into a file and name it with "
                "{}.api_key_file{}",
                section, named ? "" : " or OPSRELAY_API_KEY_FILE");
        case LaneState::dead_full:
            return "events are spooled; look with opsrelay dead list, then make room with opsrelay "
                   "dead replay or opsrelay dead purge: sending goes on at once";
        case LaneState::paused: return "events are spooled; opsrelay resume goes on sending";
    }
    return "";
}

Lane::Lane(LaneId id, const Options& options, Rng& rng, Moment start)
    : id_(id),
      most_(std::max(1U, options.connections)),
      rng_(rng),
      backoff_(options.backoff_base, options.backoff_max, rng),
      record_backoff_(options.backoff_base, options.backoff_max, rng),
      since_(start.wall),
      cause_("no API key") {}

void Lane::set_most(std::size_t requests) noexcept {
    most_ = requests;
    window_ = std::min(window_, most_);
}

Permit Lane::next(TimePoint now) const {
    if (paused_ || state_ == LaneState::no_key || in_flight_ >= most_) return {};
    if (state_ == LaneState::active) {
        return {in_flight_now_ < window_ ? Action::start : Action::wait, TimePoint::max()};
    }
    if (probe_ != 0) return {};
    if (learn_period_) return {Action::check_status, now};
    if (now < retry_at_) return {Action::wait, retry_at_};
    const bool ask_first = state_ == LaneState::plan_limited && !probe_by_event_;
    return {ask_first ? Action::check_status : Action::probe, now};
}

Ticket Lane::begin(Action action) {
    OPSRELAY_ASSERT(action != Action::wait);
    const Ticket ticket{++last_ticket_, epoch_};
    ++in_flight_;
    ++in_flight_now_;
    if (action != Action::start) {
        OPSRELAY_ASSERT(probe_ == 0);
        probe_ = ticket.number;
        asking_ = action == Action::check_status;
    }
    return ticket;
}

void Lane::end(Ticket ticket) {
    OPSRELAY_ASSERT(in_flight_ > 0);
    --in_flight_;
    if (ticket.epoch == epoch_) --in_flight_now_;
    if (ticket.number == probe_) probe_ = 0;
}

void Lane::on_abandoned(Ticket ticket) { end(ticket); }

Effect Lane::on_reply(Ticket ticket, const Attempt& attempt, const Decision& decision,
                      std::string_view cause, Moment at) {
    const bool current = ticket.epoch == epoch_;
    end(ticket);
    return judge(current, attempt, decision, cause, at);
}

Effect Lane::judge(bool current, const Attempt& attempt, const Decision& decision,
                   std::string_view cause, Moment at) {
    switch (on_reply_in(state_, decision.verdict).step) {
        case ReplyStep::deliver: return on_delivered(current, at);
        case ReplyStep::bury: return on_rejected(current, attempt, cause, at);
        case ReplyStep::doubt: return on_doubt(current, at);
        case ReplyStep::suspect:
        case ReplyStep::park: return on_failure(current, attempt, decision, cause, at);
    }
    return {};
}

std::vector<Effect> Lane::on_batch(Ticket ticket, std::span<const Judged> events, Moment at) {
    bool current = ticket.epoch == epoch_;
    end(ticket);
    std::vector<Effect> effects(events.size());
    const auto each = [&](auto wanted, auto judge_one) {
        for (std::size_t i = 0; i < events.size(); ++i) {
            if (wanted(events[i].decision.verdict)) effects[i] = judge_one(events[i]);
        }
    };
    const auto is = [](Verdict verdict) { return [verdict](Verdict v) { return v == verdict; }; };

    bool delivered = false;
    each(is(Verdict::delivered), [&](const Judged&) {
        if (!std::exchange(delivered, true)) return on_delivered(current, at);
        return Effect{.fate = Fate::delivered};
    });
    each(is(Verdict::rejected), [&](const Judged& event) {
        if (delivered) rejected_in_row_.clear();  // a delivery is between any two of them
        const auto before = epoch_;
        auto effect = judge(current, event.attempt, event.decision, event.cause, at);
        if (epoch_ != before && state_ != LaneState::active) current = false;
        return effect;
    });
    // What is the event's own matter comes last: it must not hide what concerns the lane.
    std::optional<milliseconds> delay;
    const auto fail = [&](const Judged& event) {
        auto effect = on_failure(current, event.attempt, event.decision, event.cause, at);
        current = false;
        if (!delay) delay = effect.delay;
        effect.delay = *delay;
        return effect;
    };
    const auto concerns_lane = [](Verdict verdict) {
        return on_reply_in(LaneState::active, verdict).step == ReplyStep::park;
    };
    each(concerns_lane, fail);
    each(may_be_event, fail);
    return effects;
}

Effect Lane::on_delivered(bool current, Moment at) {
    rejected_in_row_.clear();
    if (current && state_ != LaneState::active) activate(at);
    note_delivered(current);
    return {.fate = Fate::delivered};
}

void Lane::note_delivered(bool current) {
    if (!current) return;
    proven_ = true;
    failures_in_row_ = 0;
    if (++delivered_in_round_ < window_) return;
    delivered_in_round_ = 0;
    window_ = std::min(window_ * 2, most_);
}

bool Lane::blames_event(std::uint64_t content_hash) const {
    const auto is_it = [&](const Rejected& r) { return r.content_hash == content_hash; };
    return std::find(put_back_before_.begin(), put_back_before_.end(), content_hash) !=
               put_back_before_.end() ||
           std::any_of(rejected_in_row_.begin(), rejected_in_row_.end(), is_it);
}

Effect Lane::on_doubt(bool current, Moment at) {
    if (current) arm({}, at);
    return {.failed = true};  // the next probe takes another record
}

Effect Lane::on_rejected(bool current, const Attempt& attempt, std::string_view cause, Moment at) {
    if (!attempt.dead_room) {
        // Dead letters of accepted records are not pushed out by new ones.
        if (current) enter(LaneState::dead_full, cause, at);
        return {};
    }
    if (current && state_ != LaneState::active) activate(at);  // it answers
    // An event that was refused before, put back, and is refused again is itself the reason: it
    // does not count, or ten bad events would stop the lane again and again.
    if (!blames_event(attempt.content_hash)) {
        rejected_in_row_.push_back({attempt.seq, attempt.content_hash});
    }
    Effect effect{.fate = Fate::dead_letter};
    if (state_ != LaneState::active || rejected_in_row_.size() < kRejectionsInRowMax) return effect;
    for (const auto& rejected : rejected_in_row_) {
        effect.put_back.push_back(rejected.seq);
        put_back_before_.push_back(rejected.content_hash);
        if (put_back_before_.size() > kPutBackRemembered) put_back_before_.pop_front();
    }
    rejected_in_row_.clear();
    const auto all = fmt::format("{} for {} events in a row", cause, kRejectionsInRowMax);
    enter(LaneState::misconfigured, all, at);
    arm({}, at);
    return effect;
}

bool Lane::blames_record(const Attempt& attempt, const Decision& decision) {
    if (proven_ && attempt.failures >= kStuckFailures) return true;
    if (asks_to_wait(decision)) return false;
    return ++failures_in_row_ < kFailuresToOpen && proven_;
}

Effect Lane::on_failure(bool current, const Attempt& attempt, const Decision& decision,
                        std::string_view cause, Moment at) {
    const auto& cell = on_reply_in(state_, decision.verdict);
    Effect effect{.failed = may_be_event(decision.verdict)};
    if (!current) {
        const bool waits = state_ == LaneState::backing_off || state_ == LaneState::throttled;
        if (waits && asks_to_wait(decision)) {
            retry_at_ = std::max(retry_at_, at.now + *decision.retry_after);
            told_to_wait_ = true;
        }
        return effect;
    }
    if (cell.step == ReplyStep::suspect && blames_record(attempt, decision)) {
        effect.delay = record_backoff_.after(attempt.failures);
        if (asks_to_wait(decision)) effect.delay = *decision.retry_after;
        return effect;
    }
    enter(cell.to, cause, at);
    arm(decision, at);
    return effect;
}

void Lane::on_status(Ticket ticket, const WorkspaceStatus& status, Moment at) {
    const bool current = ticket.epoch == epoch_;
    const bool learning = learn_period_;
    end(ticket);
    if (!current) return;
    learn_period_ = false;
    const auto& period_end =
        state_ == LaneState::plan_limited ? status.plan_period_end : status.budget_period_end;
    if (learning) {
        // The 402 is newer than what this says: it only tells when the period ends.
        if (status.readable) on_event(LaneEvent::period_known, at, period_end);
    } else if (!status.readable) {
        on_event(LaneEvent::status_unreadable, at);
    } else {
        const auto event = status.paused ? LaneEvent::status_paused : LaneEvent::status_open;
        on_event(event, at, period_end);
    }
}

void Lane::on_key(bool has_key, Moment at) {
    ++epoch_;  // replies to the old key say nothing about the new one
    in_flight_now_ = 0;
    on_event(has_key ? LaneEvent::key_given : LaneEvent::key_taken, at);
}

void Lane::on_dead_room(Moment at) { on_event(LaneEvent::room, at); }

void Lane::on_event(LaneEvent event, Moment at, std::optional<WallTime> period_end) {
    switch (on_event_in(state_, event)) {
        case Turn::keep: return;
        case Turn::begin: return begin_sending(at);
        case Turn::probe: return try_now(at);
        case Turn::stop: return enter(LaneState::no_key, "no API key", at);
        case Turn::shorten: return limit_wait(period_end, at);
        case Turn::wait:
            retry_at_ = at.now + rng_.between(kPauseMin, kPauseMax);
            return limit_wait(period_end, at);
        case Turn::ask_event: probe_by_event_ = true; return;
    }
}

void Lane::begin_sending(Moment at) {
    const auto until = std::exchange(kept_wait_, TimePoint{});
    if (until <= at.now) return activate(at);
    enter(LaneState::throttled, "upstream asked to wait", at);
    retry_at_ = until;
    told_to_wait_ = true;
}

std::optional<TimePoint> Lane::told_to_wait() const noexcept {
    if (kept_wait_ != TimePoint{}) return kept_wait_;
    const bool waits = state_ == LaneState::backing_off || state_ == LaneState::throttled;
    return waits && told_to_wait_ ? std::optional(retry_at_) : std::nullopt;
}

void Lane::try_now(Moment at) {
    if (state_ == LaneState::active || state_ == LaneState::no_key) return;
    if (probe_ != 0 && asking_) {  // its answer must not park the lane again
        ++epoch_;
        in_flight_now_ = 0;
    }
    retry_at_ = std::min(retry_at_, at.now);
    learn_period_ = false;
    probe_by_event_ = true;
    slow_probes_ = 0;
}

void Lane::skip_wait(Moment at) {
    if (!told_to_wait_) try_now(at);
}

void Lane::on_paused(bool paused, Moment at) {
    if (paused && !paused_) paused_since_ = at.wall;
    paused_ = paused;
}

void Lane::enter(LaneState state, std::string_view cause, Moment at) {
    if (state != state_) since_ = at.wall;
    state_ = state;
    cause_ = cause;
    ++epoch_;
    in_flight_now_ = 0;
    retry_at_ = TimePoint::max();
    told_to_wait_ = false;
    learn_period_ = false;
    probe_by_event_ = false;
    failures_in_row_ = 0;
    proven_ = false;
    window_ = 1;
    delivered_in_round_ = 0;
}

void Lane::activate(Moment at) {
    enter(LaneState::active, "", at);
    backoff_.reset();
    slow_probes_ = 0;
}

milliseconds Lane::slow_probe_delay() {
    // Uniform between one step and the next: 1..2, 2..4, 4..8, then 7.5..15 minutes.
    const auto doublings = std::min(slow_probes_++, 4U);
    const auto low = std::min(kSlowProbeMin * (1U << doublings), kSlowProbeMax / 2);
    return rng_.between(low, std::min(low * 2, kSlowProbeMax));
}

void Lane::arm(const Decision& decision, Moment at) {
    switch (state_) {
        case LaneState::active:
        case LaneState::no_key:
        case LaneState::dead_full:
        case LaneState::paused: return;
        case LaneState::backing_off:
        case LaneState::throttled: {
            auto delay = backoff_.next();
            if (state_ == LaneState::throttled) delay = std::max(delay, kThrottleMin);
            told_to_wait_ = asks_to_wait(decision);
            if (told_to_wait_) delay = *decision.retry_after;
            retry_at_ = at.now + delay;
            return;
        }
        case LaneState::plan_limited:
        case LaneState::budget_stopped:
            retry_at_ = at.now + rng_.between(kPauseMin, kPauseMax);
            learn_period_ = true;
            return;
        case LaneState::unauthorized:
        case LaneState::misconfigured: retry_at_ = at.now + slow_probe_delay(); return;
    }
}

void Lane::limit_wait(std::optional<WallTime> period_end, Moment at) {
    // A period that is over already limits nothing: upstream has not rolled over yet.
    if (!period_end || *period_end <= at.wall) return;
    const auto left = *period_end + kAfterPeriodEnd - at.wall;
    if (left < retry_at_ - at.now) {
        retry_at_ = at.now + std::chrono::ceil<milliseconds>(left);
    }
}

std::optional<TimePoint> Lane::retry_at() const noexcept {
    if (paused_ || state_ == LaneState::active || state_ == LaneState::no_key) return std::nullopt;
    if (state_ == LaneState::dead_full) return std::nullopt;
    if (probe_ != 0 && !learn_period_) return std::nullopt;
    return retry_at_;
}

bool Lane::parked() const noexcept {
    switch (state()) {
        case LaneState::active:
        case LaneState::backing_off:
        case LaneState::throttled: return false;
        case LaneState::plan_limited:
        case LaneState::budget_stopped:
        case LaneState::unauthorized:
        case LaneState::misconfigured:
        case LaneState::no_key:
        case LaneState::dead_full:
        case LaneState::paused: return true;
    }
    return false;
}

}  // namespace opsrelay::forward
