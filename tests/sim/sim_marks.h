// What a set of seeds must have met to prove anything: each fault that an upstream can play, and
// each rare path of the world.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/enum_table.h"

namespace opsrelay::sim {

/// What can go wrong with one request or for a while. A seed enables a random subset for each lane.
enum class Fault : std::uint8_t {
    latency,            // up to 2 s
    reset_before,       // nothing was stored
    reset_after,        // the row was stored, the reply lost
    hang_before,        // no reply within the deadline, nothing stored
    hang_after,         // no reply within the deadline, stored
    error_500,          // for one request, with a page of HTML
    request_timeout,    // 408
    too_early,          // 425
    unanswered,         // the connection ended because of another request; stored or not
    throttle,           // 429, with Retry-After in one of its forms, or without
    far_future,         // 429 with a Retry-After of months: cut to a week
    clock_skew,         // the server's clock is hours off ours; its Date says so
    ok_false,           // 200 with ok:false and an unknown reason
    ok_false_throttle,  // 200 with ok:false, rate_limited
    ok_false_refuse,    // 200 with ok:false, validation_failed
    no_content,         // 204
    conflict_409,       // a repeat is answered with 409
    poison,             // 400 to events whose id contains "poison"
    too_large,          // 413 to events whose id contains "large"
    stuck,              // 500 to events whose id contains "stuck", until all is well
    filtered,         // 403 with a page of HTML to the same events, as a filter before the API says
    outage,           // connections refused, for minutes to hours, in long seeds days
    no_address,       // the name does not resolve, for a while
    bad_certificate,  // TLS fails, for a while
    unavailable,      // 503 with or without Retry-After, for a while
    unauthorized,     // 401, for a while
    forbidden,        // 403, for a while
    not_found,        // 404, for a while
    redirect,         // 302, for a while
    plan_limit,       // 402 and workspace-status says paused, for a while
    month_end,        // the same until the month ends; workspace-status says when
    budget_stop,      // 402 of the other kind, for a while
    web_page,         // 200 with HTML, for a while
    refuse_everything,  // 400 to every event, for a while
    ok_false_paused,    // 200 with ok:false, plan_limit_reached, for a while
    ok_false_key,       // 200 with ok:false, invalid_api_key, for a while
};
inline constexpr std::array<EnumName<Fault>, 36> kFaults{{
    {Fault::latency, "latency"},
    {Fault::reset_before, "reset_before"},
    {Fault::reset_after, "reset_after"},
    {Fault::hang_before, "hang_before"},
    {Fault::hang_after, "hang_after"},
    {Fault::error_500, "error_500"},
    {Fault::request_timeout, "request_timeout"},
    {Fault::too_early, "too_early"},
    {Fault::unanswered, "unanswered"},
    {Fault::throttle, "throttle"},
    {Fault::far_future, "far_future"},
    {Fault::clock_skew, "clock_skew"},
    {Fault::ok_false, "ok_false"},
    {Fault::ok_false_throttle, "ok_false_throttle"},
    {Fault::ok_false_refuse, "ok_false_refuse"},
    {Fault::no_content, "no_content"},
    {Fault::conflict_409, "conflict_409"},
    {Fault::poison, "poison"},
    {Fault::too_large, "too_large"},
    {Fault::stuck, "stuck"},
    {Fault::filtered, "filtered"},
    {Fault::outage, "outage"},
    {Fault::no_address, "no_address"},
    {Fault::bad_certificate, "bad_certificate"},
    {Fault::unavailable, "unavailable"},
    {Fault::unauthorized, "unauthorized"},
    {Fault::forbidden, "forbidden"},
    {Fault::not_found, "not_found"},
    {Fault::redirect, "redirect"},
    {Fault::plan_limit, "plan_limit"},
    {Fault::month_end, "month_end"},
    {Fault::budget_stop, "budget_stop"},
    {Fault::web_page, "web_page"},
    {Fault::refuse_everything, "refuse_everything"},
    {Fault::ok_false_paused, "ok_false_paused"},
    {Fault::ok_false_key, "ok_false_key"},
}};
static_assert(dense(kFaults));

/// How a Retry-After was written.
enum class RetryForm : std::uint8_t { seconds, imf_fixdate, rfc850, asctime, absent };
inline constexpr std::array<EnumName<RetryForm>, 5> kRetryForms{{
    {RetryForm::seconds, "retry_after_seconds"},
    {RetryForm::imf_fixdate, "retry_after_imf_fixdate"},
    {RetryForm::rfc850, "retry_after_rfc850"},
    {RetryForm::asctime, "retry_after_asctime"},
    {RetryForm::absent, "retry_after_absent"},
}};
static_assert(dense(kRetryForms));

enum class Mark : std::uint8_t {
    power_loss,
    kill,
    clean_restart,
    stopped_in_mid_work,  // a crash with handlers of any thread still to run
    unsynced_acks_lost,
    commit_refused,
    store_reopened,
    failed_commit_landed,
    store_gone,  // exit code 6, and a new process
    segment_damaged,
    disk_full_for_minutes,
    intake_closed,
    disk_stalled,
    dropped_oldest,
    dropped_expired,
    wall_clock_forward,
    wall_clock_back,
    duplicate,
    duplicate_before_durable,
    duplicate_after_restart,
    same_id_in_two_lanes,
    minted_id,
    rejected,
    shed,
    not_confirmed_in_time,  // HTTP 503; the client sends the same id again
    dead_letter,
    replayed,
    replay_refused,
    key_changed,
    drained_at_shutdown,
    cut_off_at_shutdown,
    two_lanes,
    four_lanes,
    batches,      // several events in one request
    split_batch,  // one was refused whole
    two_weeks,
    lane_backing_off,
    lane_throttled,
    lane_plan_limited,
    lane_budget_stopped,
    lane_unauthorized,
    lane_misconfigured,
    lane_no_key,
    lane_dead_full,
    lane_paused,
    lane_added_live,
    lane_removed_live,
    dead_letter_put_back,
    dead_letter_purged,
    deferred,               // a record waits apart from the queue
    deferred_over_restart,  // and does so in the next process
    lane_left_with_records,
    lane_came_back,
    lane_purged,
    ids_sealed,
    ids_merged,
    ids_expired,
    maybe_confirmed,  // a duplicate that only the disk could tell
    confirmed_after_restart,
    maybe_false,
    run_refused,
    breaker_held,   // 20 failures in a row over a minute, one request at a time
    wait_observed,  // a Retry-After was obeyed to the end
};
inline constexpr std::array<EnumName<Mark>, 63> kMarks{{
    {Mark::power_loss, "power_loss"},
    {Mark::kill, "kill"},
    {Mark::clean_restart, "clean_restart"},
    {Mark::stopped_in_mid_work, "stopped_in_mid_work"},
    {Mark::unsynced_acks_lost, "unsynced_acks_lost"},
    {Mark::commit_refused, "commit_refused"},
    {Mark::store_reopened, "store_reopened"},
    {Mark::failed_commit_landed, "failed_commit_landed"},
    {Mark::store_gone, "store_gone"},
    {Mark::segment_damaged, "segment_damaged"},
    {Mark::disk_full_for_minutes, "disk_full_for_minutes"},
    {Mark::intake_closed, "intake_closed"},
    {Mark::disk_stalled, "disk_stalled"},
    {Mark::dropped_oldest, "dropped_oldest"},
    {Mark::dropped_expired, "dropped_expired"},
    {Mark::wall_clock_forward, "wall_clock_forward"},
    {Mark::wall_clock_back, "wall_clock_back"},
    {Mark::duplicate, "duplicate"},
    {Mark::duplicate_before_durable, "duplicate_before_durable"},
    {Mark::duplicate_after_restart, "duplicate_after_restart"},
    {Mark::same_id_in_two_lanes, "same_id_in_two_lanes"},
    {Mark::minted_id, "minted_id"},
    {Mark::rejected, "rejected"},
    {Mark::shed, "shed"},
    {Mark::not_confirmed_in_time, "not_confirmed_in_time"},
    {Mark::dead_letter, "dead_letter"},
    {Mark::replayed, "replayed"},
    {Mark::replay_refused, "replay_refused"},
    {Mark::key_changed, "key_changed"},
    {Mark::drained_at_shutdown, "drained_at_shutdown"},
    {Mark::cut_off_at_shutdown, "cut_off_at_shutdown"},
    {Mark::two_lanes, "two_lanes"},
    {Mark::four_lanes, "four_lanes"},
    {Mark::batches, "batches"},
    {Mark::split_batch, "split_batch"},
    {Mark::two_weeks, "two_weeks"},
    {Mark::lane_backing_off, "lane_backing_off"},
    {Mark::lane_throttled, "lane_throttled"},
    {Mark::lane_plan_limited, "lane_plan_limited"},
    {Mark::lane_budget_stopped, "lane_budget_stopped"},
    {Mark::lane_unauthorized, "lane_unauthorized"},
    {Mark::lane_misconfigured, "lane_misconfigured"},
    {Mark::lane_no_key, "lane_no_key"},
    {Mark::lane_dead_full, "lane_dead_full"},
    {Mark::lane_paused, "lane_paused"},
    {Mark::lane_added_live, "lane_added_live"},
    {Mark::lane_removed_live, "lane_removed_live"},
    {Mark::dead_letter_put_back, "dead_letter_put_back"},
    {Mark::dead_letter_purged, "dead_letter_purged"},
    {Mark::deferred, "deferred"},
    {Mark::deferred_over_restart, "deferred_over_restart"},
    {Mark::lane_left_with_records, "lane_left_with_records"},
    {Mark::lane_came_back, "lane_came_back"},
    {Mark::lane_purged, "lane_purged"},
    {Mark::ids_sealed, "ids_sealed"},
    {Mark::ids_merged, "ids_merged"},
    {Mark::ids_expired, "ids_expired"},
    {Mark::maybe_confirmed, "maybe_confirmed"},
    {Mark::confirmed_after_restart, "confirmed_after_restart"},
    {Mark::maybe_false, "maybe_false"},
    {Mark::run_refused, "run_refused"},
    {Mark::breaker_held, "breaker_held"},
    {Mark::wait_observed, "wait_observed"},
}};
static_assert(dense(kMarks));

/// What was met, by bit.
struct Coverage {
    std::bitset<kFaults.size()> faults;
    std::bitset<kRetryForms.size()> retry_forms;
    std::bitset<kMarks.size()> marks;

    void note(Fault fault) { faults.set(index_of(fault)); }
    void note(RetryForm form) { retry_forms.set(index_of(form)); }
    void note(Mark mark) { marks.set(index_of(mark)); }
    void add(const Coverage& other) {
        faults |= other.faults;
        retry_forms |= other.retry_forms;
        marks |= other.marks;
    }
    /// Names of what was not met, each with a space before it; "": everything was.
    [[nodiscard]] std::string missing() const;
    bool operator==(const Coverage&) const = default;
};

}  // namespace opsrelay::sim
