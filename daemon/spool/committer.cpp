#include "spool/committer.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <tuple>
#include <utility>

#include "spool/strike_out.h"

namespace opsrelay::spool {

namespace {

constexpr milliseconds kRetryEvery{250};
constexpr milliseconds kReopenPauseMax{10'000};
constexpr milliseconds kTroubleLogEvery{10'000};
constexpr milliseconds kHousekeepingEvery{1000};
constexpr milliseconds kReserveRetryEvery{60'000};

}  // namespace

Committer::Committer(asio::any_io_executor storage, Clock& clock, SegmentQueue& queue, Store& store,
                     Settler& settler, IdKeeper& ids, const Options& options,
                     observe::StorageTotals& totals, observe::Registry& registry, CommitHooks hooks)
    : clock_(clock),
      queue_(queue),
      store_(store),
      settler_(settler),
      ids_(ids),
      options_(options),
      totals_(totals),
      hooks_(std::move(hooks)),
      wake_(std::move(storage), clock),
      throttle_(clock, kTroubleLogEvery),
      commit_seconds_(registry.histogram(observe::kCommitSeconds)),
      commit_events_(registry.histogram(observe::kCommitEvents)),
      budget_(options) {}

asio::awaitable<void> Committer::run() {
    watch_disk();
    while (!ended_) {
        const auto next_start = last_start_ + options_.commit_gap;
        if (clock_.now() < next_start && !give_up_at_) co_await clock_.sleep_until(next_start);
        // Ids that cannot become a run fill the memory: then the queue fills instead.
        if (!ids_.has_room() && !give_up_at_ && !ended_) {
            begin_stall();
            co_await wake_.wait();
            continue;
        }
        end_stall();
        auto group = queue_.take();
        if (!group) {
            ids_.none_waits();
            if (give_up_at_) break;
            if (!ended_) co_await wake_.wait();
            continue;
        }
        strike_duplicates(*group);
        if (group->last >= behind_stall_) ids_.none_waits();
        in_hand_ = group->events;
        in_hand_last_ = group->last;
        const bool committed = co_await commit(*group);  // named: see GCC bug 107288
        if (!committed) break;                           // what is in hand stays counted as pending
        in_hand_ = 0;
        queue_.recycle(std::move(*group));
    }
    ended_ = true;
}

void Committer::strike_duplicates(Segment& segment, std::vector<Position>& asked_after) {
    if (segment.maybe.empty()) return;
    std::vector<IdHash> ids;
    for (const auto& maybe : segment.maybe) ids.push_back(segment.ids[maybe.index]);
    const auto found = ids_.find(ids);
    std::vector<std::uint32_t> struck;
    for (std::size_t i = 0; i < found.size(); ++i) {
        const auto& maybe = segment.maybe[i];
        if (!found[i]) {
            maybe.call.count();
            continue;
        }
        struck.push_back(maybe.index);
        if (maybe.asked_after) asked_after.push_back(maybe.position);
    }
    strike_out(segment, struck);
    totals_.duplicates += struck.size();
}

void Committer::strike_duplicates(Group& group) {
    std::vector<Position> asked_after;
    group.events = 0;
    for (auto& segment : group.segments) {
        strike_duplicates(segment, asked_after);
        segment.id_clock_ms = ids_.now_ms();
        group.events += segment.count;
    }
    std::erase_if(group.segments, [](const Segment& segment) { return segment.count == 0; });
    if (!asked_after.empty()) hooks_.struck(std::move(asked_after));
}

asio::awaitable<bool> Committer::commit(const Group& group) {
    const bool writes = !group.segments.empty() || !group.rejected.empty();
    while (writes) {
        last_start_ = clock_.now();
        const auto result = attempt(group);
        if (result == Attempt::done) break;
        if (result == Attempt::failed) co_return false;
        if (give_up_at_ && clock_.now() >= *give_up_at_) {
            log::error("spool", "events given up at shutdown: the disk did not take them",
                       {{"events", group.events}, {"cause", trouble_}});
            co_return false;
        }
        begin_stall();
        co_await wake_.wait_until(clock_.now() + kRetryEvery);
    }
    if (writes) {
        commit_seconds_.observe(std::chrono::duration<double>(clock_.now() - last_start_).count());
        commit_events_.observe(static_cast<double>(group.events));
        settler_.note_synced();  // earlier acks rode on this commit's sync
    }
    for (const auto& segment : group.segments) {
        settler_.note_committed(segment.lane, segment.count);
        committed_ += Bytes{segment.payload.size()};
    }
    if (committed_ >= budget_.look_after(last_stats_)) watch_disk();
    ids_.note_committed(group.segments, group.last);
    durable_ = group.last;
    hooks_.settled(durable_);
    for (const auto& segment : group.segments) hooks_.committed(segment.lane);
    co_return true;
}

void Committer::begin_stall() {
    stalled_ = true;
    ids_.note_stalled();
}

void Committer::end_stall() {
    if (std::exchange(stalled_, false)) behind_stall_ = queue_.newest();
}

Committer::Attempt Committer::attempt(const Group& group) {
    if (clock_.now() < reopen_due_) return Attempt::again;
    const auto written = store_.commit(group.segments, group.rejected);
    if (written) {
        if (!trouble_.empty()) log_recovery();
        trouble_.clear();
        volume_full_ = reopened_ = false;
        return Attempt::done;
    }
    const auto& error = written.error();
    trouble_ = error.context;
    switch (error.code) {
        case Errc::spool_full:
            volume_full_ = true;
            reopened_ = false;  // that did what it can
            keep_reserve();
            [[fallthrough]];
        case Errc::spool_busy:
            if (const auto hidden = throttle_.allow(to_string(error.code))) {
                log::warn("spool", "commit refused, the batch is kept and tried again",
                          {{"error", error.context},
                           {"events", group.events},
                           {"retry_in_ms", kRetryEvery.count()},
                           {"suppressed", *hidden}});
            }
            return Attempt::again;
        default: return reopen(error);
    }
}

Committer::Attempt Committer::reopen(const Error& cause) {
    if (clock_.now() < reopen_due_) return Attempt::again;
    if (!reopened_) {
        reopened_ = true;
        if (const auto hidden = throttle_.allow("reopen")) {
            log::error("spool", "a write failed, opening the spool again",
                       {{"error", cause.context}, {"suppressed", *hidden}});
        }
        const auto opened = store_.reopen();
        if (opened) {
            reopen_pause_ = {};
            settler_.adopt(false);
            ids_.note_reopened();
            return Attempt::again;
        }
        trouble_ = opened.error().context;
        if (opened.error().code == Errc::spool_full) {
            volume_full_ = true;
            reopened_ = false;
            // Each try writes what the logs hold into tables first.
            reopen_pause_ = std::clamp(reopen_pause_ * 2, kRetryEvery, kReopenPauseMax);
            reopen_due_ = clock_.now() + reopen_pause_;
            return Attempt::again;
        }
    }
    log::error("spool", "the spool cannot be used any more",
               {{"error", trouble_}, {"next", "check the disk, then restart opsrelay"}});
    ended_ = true;
    wake_.notify_all();
    hooks_.failed({Errc::spool_reopen, trouble_});
    return Attempt::failed;
}

asio::awaitable<void> Committer::run_housekeeping() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        co_await clock_.sleep_for(kHousekeepingEvery);
        if (ended_) continue;
        flush_acks();
        if (!ended_) watch_disk();
    }
}

void Committer::flush_acks() {
    const auto flushed = settler_.flush_idle();
    idle_trouble_ = flushed ? "" : flushed.error().context;
    if (flushed && trouble_.empty()) volume_full_ = false;
    if (flushed) return;
    if (flushed.error().code == Errc::spool_full) {
        volume_full_ = true;
        reopened_ = false;                               // that did what it can
        if (in_hand_ == 0) std::ignore = store_.sync();  // says whether to open again
    }
    if (const auto hidden = throttle_.allow("acks")) {
        log::warn("spool", "acks cannot be written, they are kept and tried again",
                  {{"error", idle_trouble_}, {"suppressed", *hidden}});
    }
    // A commit in hand meets the same error and deals with it.
    if (flushed.error().code == Errc::spool_reopen && in_hand_ == 0) {
        std::ignore = reopen(flushed.error());
    }
}

void Committer::watch_disk() {
    committed_ = {};
    last_stats_ = store_.stats();
    const auto decided = budget_.decide(last_stats_);
    keep_reserve();
    if (budget_.tight(last_stats_)) make_room();
    const bool open = decided == Intake::open;
    if (open == queue_.spool_open()) return;
    queue_.set_spool_open(open);
    log_intake(decided);
    if (open) hooks_.settled(durable_);  // wakes the streams that wait for room
}

void Committer::keep_reserve() {
    const auto wanted = budget_.reserve_wanted(last_stats_, volume_full_);
    const bool holds = last_stats_.reserve.count > 0;
    if ((wanted.count > 0) == holds) return;
    if (!holds && clock_.now() < reserve_due_) return;
    const auto kept = store_.hold_reserve(wanted);
    last_stats_ = store_.stats();
    if (!kept) {
        reserve_due_ = clock_.now() + kReserveRetryEvery;
        if (const auto hidden = throttle_.allow("reserve")) {
            log::warn("spool", "no space could be set aside",
                      {{"error", kept.error().context}, {"suppressed", *hidden}});
        }
    } else if (holds) {
        if (const auto hidden = throttle_.allow("reserve_given_back")) {
            log::warn("spool", "the volume is full, the reserve is given back",
                      {{"volume_free_bytes", last_stats_.volume_free.count},
                       {"next", "it is set aside again when there is space"},
                       {"suppressed", *hidden}});
        }
    } else if (const auto hidden = throttle_.allow("reserve_kept")) {
        log::info("spool", "space is set aside for a full volume",
                  {{"bytes", wanted.count}, {"suppressed", *hidden}});
    }
}

void Committer::log_recovery() {
    if (const auto hidden = throttle_.allow("recovery")) {
        log::info("spool", "commits work again", {{"after", trouble_}, {"suppressed", *hidden}});
    }
}

void Committer::log_intake(Intake decided) {
    const bool open = decided == Intake::open;
    const auto hidden = throttle_.allow(open ? "intake_open" : "intake_closed");
    if (!hidden) return;
    if (open) {
        log::info("spool", "intake open again",
                  {{"spool_bytes", last_stats_.disk.count}, {"suppressed", *hidden}});
        return;
    }
    log::warn("spool", "intake closed",
              {{"cause", to_string(decided)},
               {"spool_bytes", last_stats_.disk.count},
               {"spool_max_bytes", options_.bytes_max.count},
               {"volume_free_bytes", last_stats_.volume_free.count},
               {"next", next_step(decided)},
               {"suppressed", *hidden}});
}

std::string Committer::next_step(Intake decided) const {
    if (decided == Intake::volume_full) return "it opens again when the volume has space";
    std::string next = "it opens again as records are delivered";
    if (needs_more_than_records()) next = "deliveries alone do not open it again";
    if (settler_.spooled() == 0) next = "all is delivered: purge dead letters";
    if (const auto& kept = last_stats_.damaged; !kept.empty()) {
        next +=
            fmt::format("; `opsrelay spool repair --write` takes back {}", fmt::join(kept, ", "));
    }
    if (const auto& kept = last_stats_.repaired; !kept.empty()) {
        next += fmt::format("; nothing needs {} any more: look at it, then delete it",
                            fmt::join(kept, ", "));
    }
    return next;
}

bool Committer::needs_more_than_records() const {
    Bytes records;
    for (const auto lane : settler_.lanes()) records += store_.lane_bytes(lane);
    return budget_.tight_without(records, last_stats_);
}

void Committer::make_room() {
    std::optional<LaneId> largest;
    Bytes most;
    for (const auto lane : settler_.lanes()) {
        const auto bytes = store_.lane_bytes(lane);
        if (!settler_.oldest_part(lane) || bytes <= most) continue;
        largest = lane;
        most = bytes;
    }
    if (!largest || !budget_.worth_dropping(most) || needs_more_than_records()) return;
    hooks_.drop_oldest(*largest, *settler_.oldest_part(*largest));
}

void Committer::set_limits(const Options& options) {
    take_limits(options_, options);
    budget_ = DiskBudget(options_);
    store_.set_limits(options_);
    watch_disk();
}

void Committer::request_stop(TimePoint give_up_at) {
    give_up_at_ = give_up_at;
    wake_.notify_all();
}

}  // namespace opsrelay::spool
