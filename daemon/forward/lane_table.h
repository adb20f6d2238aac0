// The state machine of a lane, whole: what each reply and each other event does in each state.
// Lane carries it out (lane.cpp); nothing else decides what follows a reply.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/enum_table.h"
#include "forward/retry.h"

namespace opsrelay::forward {

/// Label values of `state` in opsrelay_lane_state; the word in status and logs.
enum class LaneState : std::uint8_t {
    active,          // sending
    backing_off,     // upstream fails or cannot be reached
    throttled,       // 429
    plan_limited,    // 402: the plan's requests are used up
    budget_stopped,  // 402: a budget stops telemetry
    unauthorized,    // 401, 403: the key is not accepted
    misconfigured,   // what answers is not the API, or refuses everything
    no_key,          // nothing is sent: no API key yet
    dead_full,       // upstream refused an event for good and dead letters are full
    paused,          // by an operator
};
inline constexpr std::array<EnumName<LaneState>, 10> kLaneStates{{
    {LaneState::active, "active"},
    {LaneState::backing_off, "backing_off"},
    {LaneState::throttled, "throttled"},
    {LaneState::plan_limited, "plan_limited"},
    {LaneState::budget_stopped, "budget_stopped"},
    {LaneState::unauthorized, "unauthorized"},
    {LaneState::misconfigured, "misconfigured"},
    {LaneState::no_key, "no_key"},
    {LaneState::dead_full, "dead_full"},
    {LaneState::paused, "paused"},
}};
static_assert(dense(kLaneStates));
constexpr std::string_view to_string(LaneState s) { return kLaneStates.at(index_of(s)).name; }

/// A pause lies over the state of a lane and changes none of what follows: it has no column.
inline constexpr std::size_t kColumns = kLaneStates.size() - 1;
static_assert(index_of(LaneState::paused) == kColumns);

/// What a reply does to its record, and to the lane. To the lane only if the request began in the
/// present epoch: a late reply settles its record as told here, and at most prolongs a wait.
enum class ReplyStep : std::uint8_t {
    deliver,  // the record is delivered; the lane becomes active, or opens its window further
    bury,     // a dead letter, and the lane answers: active. Where there is no room for it the
           // record stays and the lane goes to dead_full. The tenth in a row: Lane::on_rejected()
    doubt,    // refused by what refuses everything: the record stays, the lane waits on
    suspect,  // the record stays. Alone among deliveries it is the one to blame and waits by
              // itself; else the lane goes to `to` with a wait
    park,     // the record stays; the lane goes to `to`, from there too, with a new wait
};
struct Cell {
    ReplyStep step = ReplyStep::park;
    LaneState to = LaneState::active;
};
constexpr Cell park(LaneState to) { return {ReplyStep::park, to}; }
constexpr Cell suspect(LaneState to) { return {ReplyStep::suspect, to}; }

struct ReplyRow {
    Verdict reply;
    std::array<Cell, kColumns> in;
};

namespace cells {
inline constexpr Cell kGo{ReplyStep::deliver, LaneState::active};
inline constexpr Cell kBury{ReplyStep::bury, LaneState::active};
inline constexpr Cell kDoubt{ReplyStep::doubt, LaneState::misconfigured};
inline constexpr Cell kDown = park(LaneState::backing_off);
inline constexpr Cell kDown1 = suspect(LaneState::backing_off);
inline constexpr Cell kSlow = park(LaneState::throttled);
inline constexpr Cell kPlan = park(LaneState::plan_limited);
inline constexpr Cell kCost = park(LaneState::budget_stopped);
inline constexpr Cell kKey = park(LaneState::unauthorized);
inline constexpr Cell kBad = park(LaneState::misconfigured);
inline constexpr Cell kBad1 = suspect(LaneState::misconfigured);
}  // namespace cells

// clang-format off
inline constexpr std::array<ReplyRow, kVerdicts.size()> kReplies = [] {
    using namespace cells;
    using enum Verdict;
    return std::array<ReplyRow, kVerdicts.size()>{{
    //  reply          active  back_off throttl plan_l budget unauth misconf no_key dead_full
    {delivered,      {{kGo,    kGo,     kGo,    kGo,   kGo,   kGo,   kGo,    kGo,   kGo}}},
    {not_the_api,    {{kBad1,  kBad,    kBad,   kBad,  kBad,  kBad,  kBad,   kBad,  kBad}}},
    {rejected,       {{kBury,  kBury,   kBury,  kBury, kBury, kBury, kDoubt, kBury, kBury}}},
    {unauthorized,   {{kKey,   kKey,    kKey,   kKey,  kKey,  kKey,  kKey,   kKey,  kKey}}},
    {plan_limited,   {{kPlan,  kPlan,   kPlan,  kPlan, kPlan, kPlan, kPlan,  kPlan, kPlan}}},
    {budget_stopped, {{kCost,  kCost,   kCost,  kCost, kCost, kCost, kCost,  kCost, kCost}}},
    {misconfigured,  {{kBad,   kBad,    kBad,   kBad,  kBad,  kBad,  kBad,   kBad,  kBad}}},
    {throttled,      {{kSlow,  kSlow,   kSlow,  kSlow, kSlow, kSlow, kSlow,  kSlow, kSlow}}},
    {backoff,        {{kDown1, kDown,   kDown,  kDown, kDown, kDown, kDown,  kDown, kDown}}},
    }};
}();
// clang-format on

/// What happens to a lane besides replies to events.
enum class LaneEvent : std::uint8_t {
    key_given,         // a key, or another one
    key_taken,         // there is none any more
    room,              // for dead letters
    period_known,      // the first workspace-status after a 402: says when the period ends
    status_open,       // workspace-status: not paused
    status_paused,     // workspace-status: still paused
    status_unreadable  // workspace-status could not be read
};
enum class Turn : std::uint8_t {
    keep,     // nothing
    begin,    // active; where upstream asked to wait before the lane was made: throttled until then
    probe,    // at once
    stop,     // no_key
    shorten,  // wait no longer than the period
    wait,     // again, no longer than the period
    ask_event,  // an event is the probe, at once
};
struct EventRow {
    LaneEvent event;
    std::array<Turn, kColumns> in;
};
inline constexpr std::size_t kLaneEvents = 7;

// clang-format off
inline constexpr std::array<EventRow, kLaneEvents> kEvents = [] {
    using enum Turn;
    using enum LaneEvent;
    constexpr auto ask = ask_event;
    return std::array<EventRow, kLaneEvents>{{
    //  event             active back_off throttl plan_l   budget   unauth misconf no_key dead_full
    {key_given,         {{keep,  keep,   keep,   probe,   probe,   probe, probe,  begin, keep}}},
    {key_taken,         {{stop,  stop,   stop,   stop,    stop,    stop,  stop,   stop,  stop}}},
    {room,              {{keep,  keep,   keep,   keep,    keep,    keep,  keep,   keep,  begin}}},
    {period_known,      {{keep,  keep,   keep,   shorten, shorten, keep,  keep,   keep,  keep}}},
    {status_open,       {{keep,  keep,   keep,   begin,   keep,    keep,  keep,   keep,  keep}}},
    {status_paused,     {{keep,  keep,   keep,   wait,    keep,    keep,  keep,   keep,  keep}}},
    {status_unreadable, {{keep,  keep,   keep,   ask,     keep,    keep,  keep,   keep,  keep}}},
    }};
}();
// clang-format on

constexpr const Cell& on_reply_in(LaneState state, Verdict reply) {
    return kReplies.at(index_of(reply)).in.at(index_of(state));
}
constexpr Turn on_event_in(LaneState state, LaneEvent event) {
    return kEvents.at(index_of(event)).in.at(index_of(state));
}

/// The record itself may be to blame, alone among others.
constexpr bool may_be_event(Verdict reply) {
    return on_reply_in(LaneState::active, reply).step == ReplyStep::suspect;
}

// Every row is where it is looked for, and no reply leads into a state that only others make.
static_assert([] {
    for (std::size_t i = 0; i < kReplies.size(); ++i) {
        if (index_of(kReplies[i].reply) != i) return false;
        for (const auto& cell : kReplies[i].in) {
            if (cell.to == LaneState::no_key || cell.to == LaneState::paused) return false;
            if (cell.step == ReplyStep::park && cell.to == LaneState::active) return false;
        }
    }
    for (std::size_t i = 0; i < kEvents.size(); ++i) {
        if (index_of(kEvents[i].event) != i) return false;
    }
    return true;
}());

}  // namespace opsrelay::forward
