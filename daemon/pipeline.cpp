#include "pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <utility>

#include "core/assert.h"
#include "core/log.h"
#include "core/run_on.h"

namespace opsrelay {

namespace {

constexpr milliseconds kCommitLookEvery{5};

asio::awaitable<void> drain(forward::Pump& pump, TimePoint deadline, bool& all_drained) {
    const bool drained = co_await pump.drain_until(deadline);
    all_drained = all_drained && drained;
}

}  // namespace

Pipeline::Pipeline(const Executors& executors, Clock& clock, Rng& intake_rng, Rng& forward_rng,
                   spool::Store& store, const Options& options, observe::Registry& registry,
                   std::function<void(const Error&)> on_failed)
    : executors_(executors),
      clock_(clock),
      forward_rng_(forward_rng),
      registry_(registry),
      tap_(options.tap),
      store_(store),
      queue_(options.spool.stall_buffer),
      intake_(executors.ingest, clock, intake_rng, store.salt(), options.intake, queue_, registry,
              [this] { asio::post(executors_.storage, [this] { committer_.wake(); }); }),
      settler_(executors.storage, store, totals_),
      ids_({executors.storage, executors.maintenance}, clock, store, options.spool, registry,
           id_hooks()),
      committer_(executors.storage, clock, queue_, store, settler_, ids_, options.spool, totals_,
                 registry, hooks(std::move(on_failed))),
      storage_tasks_(executors.storage, clock),
      forward_tasks_(executors.forward, clock) {
    OPSRELAY_ASSERT(!options.lanes.empty());
    intake_.set_tap(tap_);
    settler_.set_tap(tap_);
    for (const auto& lane : options.lanes) {
        make_pump(lane);
        configured_.insert(lane.name.lane);
    }
    share_memory();
}

// Among the lanes that there are, so that many do not take more than one.
void Pipeline::share_memory() {
    if (pumps_.empty()) return;
    const Bytes share{forward::kHeldBytesMax.count / pumps_.size()};
    for (auto& pump : pumps_) pump.set_held_max(std::max(share, forward::kHeldBytesMin));
}

forward::Pump& Pipeline::make_pump(const Lane& lane) {
    auto& pump = pumps_.emplace_back(executors_.forward, clock_, forward_rng_, settler_,
                                     lane.upstream, lane.forward, lane.name, registry_, lane.plan);
    pump.set_tap(tap_);
    return pump;
}

forward::Pump* Pipeline::find_pump(LaneId lane) noexcept {
    const auto found = std::find_if(pumps_.begin(), pumps_.end(),
                                    [lane](const auto& pump) { return pump.lane().lane == lane; });
    return found == pumps_.end() ? nullptr : &*found;
}

forward::Pump& Pipeline::pump(LaneId lane) {
    auto* const found = find_pump(lane);
    OPSRELAY_ASSERT(found != nullptr);
    return *found;
}

void Pipeline::note_replayed(LaneId lane) {
    asio::post(executors_.forward, [this, lane] {
        if (auto* const pump = find_pump(lane)) pump->notify_records();
    });
}

void Pipeline::note_paused(LaneId lane, bool paused) {
    asio::post(executors_.forward, [this, lane, paused] {
        if (auto* const pump = find_pump(lane)) pump->set_paused(paused);
    });
}

void Pipeline::note_flush(LaneId lane) {
    settler_.hasten_here(lane, unix_ms(clock_.wall_now()));
    asio::post(executors_.forward, [this, lane] {
        if (auto* const pump = find_pump(lane)) pump->skip_wait();
    });
}

std::vector<forward::LaneStatus> Pipeline::lanes() const {
    std::vector<forward::LaneStatus> all;
    for (const auto& pump : pumps_) all.push_back(pump.status());
    return all;
}

spool::IdKeeper::Hooks Pipeline::id_hooks() {
    return {
        .changed =
            [this](spool::IdView view) {
                asio::post(executors_.ingest, [this, view = std::move(view)]() mutable {
                    intake_.note_ids(std::move(view));
                });
            },
        .room = [this] { committer_.wake(); },
    };
}

spool::CommitHooks Pipeline::hooks(std::function<void(const Error&)> on_failed) {
    return {
        .settled =
            [this](Position position) {
                asio::post(executors_.ingest, [this, position] { intake_.note_settled(position); });
            },
        .struck =
            [this](std::vector<Position> positions) {
                asio::post(executors_.ingest, [this, positions = std::move(positions)] {
                    intake_.note_struck(positions);
                });
            },
        .committed = [this](LaneId lane) { note_replayed(lane); },
        .drop_oldest = [this](LaneId lane, Seq end) { drop_oldest(lane, end); },
        .failed =
            [this, on_failed = std::move(on_failed)](const Error& error) {
                asio::post(executors_.ingest, [this] { intake_.note_failed(); });
                on_failed(error);
            },
    };
}

void Pipeline::report_unconfigured(LaneId lane) const {
    const auto spooled = settler_.spooled(lane);
    if (spooled == 0) return;
    const auto& name = names_.at(lane);
    log::warn("relay", "a lane with records is not configured; it keeps them, nothing is sent",
              {{"lane", name},
               {"records", spooled},
               {"next", fmt::format("configure it again, or end its records with `opsrelay "
                                    "spool purge --lane {}`",
                                    name)}});
}

// On the storage thread.
void Pipeline::drop_oldest(LaneId lane, Seq end) {
    if (!configured(lane)) return settler_.drop_unread(lane, end, DropReason::oldest);
    asio::post(executors_.forward, [this, lane, end] {
        if (auto* const pump = find_pump(lane)) pump->drop_below(end, DropReason::oldest);
    });
}

asio::awaitable<Result<LaneId>> Pipeline::make_lane(std::string name) {
    // Result<> has no default constructor, which run_on needs: carried in an optional.
    auto job = [this, name = std::move(name)] {
        std::optional<Result<LaneId>> made = settler_.make_lane(name);
        if (*made) names_[**made] = name;
        return made;
    };
    auto made = co_await run_on(executors_.storage, std::move(job));
    co_return std::move(*made);
}

asio::awaitable<void> Pipeline::add_lane(Lane lane) {
    auto& pump = make_pump(lane);
    share_memory();
    auto job = [this, id = lane.name.lane] {
        configured_.insert(id);
        return settler_.start_of(id);
    };
    const auto from = co_await run_on(executors_.storage, std::move(job));
    const auto wait = waits_.extract(pump.lane().lane);
    if (!wait.empty() && wait.mapped().url == pump.url()) pump.keep_wait(wait.mapped().until);
    pump.start(from);
}

asio::awaitable<void> Pipeline::remove_lane(LaneId lane, TimePoint deadline) {
    auto& pump = this->pump(lane);
    co_await pump.stop(deadline);
    auto job = [this, lane] {
        configured_.erase(lane);
        settler_.note_unread(lane);
        report_unconfigured(lane);
    };
    co_await run_on(executors_.storage, std::move(job));
    if (const auto until = pump.told_to_wait()) waits_[lane] = {pump.url(), *until};
    pump.clear_metrics();
    pumps_.remove_if([lane](const auto& one) { return one.lane().lane == lane; });
    share_memory();
}

asio::awaitable<void> Pipeline::set_limits(spool::Options options) {
    auto job = [this, options = std::move(options)] { committer_.set_limits(options); };
    co_await run_on(executors_.storage, std::move(job));
}

asio::awaitable<bool> Pipeline::commit_pending(TimePoint due) {
    auto newest = [this] { return std::max(queue_.newest(), committer_.in_hand_last()); };
    const auto wanted = co_await run_on(executors_.storage, std::move(newest));
    for (;;) {
        auto ask = [this] { return committer_.durable(); };
        const auto durable = co_await run_on(executors_.storage, std::move(ask));
        if (durable >= wanted) co_return true;
        if (clock_.now() >= due) co_return false;
        co_await clock_.sleep_for(kCommitLookEvery);
    }
}

Result<void> Pipeline::recover() {
    settler_.adopt(true);
    settler_.on_dead_usage([this](const spool::DeadUsage& usage) {
        asio::post(executors_.forward, [this, usage] {
            settler_.note_dead_usage(usage);
            for (auto& pump : pumps_) pump.note_dead_room();
        });
    });
    for (const auto& lane : store_.lanes()) {
        names_[lane.lane] = lane.name;
        if (!configured(lane.lane)) report_unconfigured(lane.lane);
    }
    return ids_.recover([this](const IdHash& id) { intake_.recover_id(id); });
}

void Pipeline::start() {
    asio::post(executors_.storage, [this] {
        storage_tasks_.spawn("ids", ids_.run());
        storage_tasks_.spawn("commit", committer_.run());
        storage_tasks_.spawn("housekeeping", committer_.run_housekeeping());
    });
    for (auto& pump : pumps_) pump.start(settler_.start_of(pump.lane().lane));
}

Snapshot Pipeline::snapshot_here() const {
    const auto queued = queue_.snapshot();
    Snapshot view;
    view.ledger.intake = queued.totals;
    view.ledger.storage = totals_;
    view.ledger.pending = queued.events + committer_.in_hand();
    view.ledger.spooled = settler_.spooled();
    for (const auto& [lane, name] : names_) {
        const auto spooled = settler_.spooled(lane);
        if (configured(lane)) {
            view.spooled_by_lane[lane] = spooled;
            view.deferred_by_lane[lane] = settler_.deferred(lane);
        } else if (lane != kDefaultLane || spooled > 0) {  // every spool has the default lane
            view.unconfigured.push_back({{lane, name}, spooled, settler_.deferred(lane)});
        }
    }
    view.store = committer_.last_stats();
    view.room = committer_.room();
    view.dead = settler_.dead_usage();
    view.ids = {ids_.ids(), ids_.ids_max(), ids_.window()};
    view.trouble = committer_.trouble();
    return view;
}

asio::awaitable<Snapshot> Pipeline::snapshot() {
    auto job = [this] { return snapshot_here(); };
    co_return co_await run_on(executors_.storage, std::move(job));
}

asio::awaitable<bool> Pipeline::drain_until(TimePoint deadline) {
    bool all_drained = true;
    bool all_settled = false;
    // A lane that was through early may have got records while another drained.
    while (all_drained && !all_settled) {
        for (auto& pump : pumps_) forward_tasks_.spawn("drain", drain(pump, deadline, all_drained));
        co_await forward_tasks_.join();
        all_settled = std::all_of(pumps_.begin(), pumps_.end(),
                                  [](const forward::Pump& pump) { return pump.all_settled(); });
    }
    co_return all_drained;
}

asio::awaitable<void> Pipeline::stop(TimePoint deadline, milliseconds commit_limit) {
    for (auto& pump : pumps_) forward_tasks_.spawn("stop", pump.stop(deadline));
    co_await forward_tasks_.join();
    auto ask = [this, commit_limit] {
        committer_.request_stop(clock_.now() + commit_limit);
        storage_tasks_.cancel(asio::cancellation_type::total);
    };
    co_await run_on(executors_.storage, std::move(ask));
    co_await asio::co_spawn(executors_.storage, storage_tasks_.join(), asio::use_awaitable);
    auto flush = [this] {
        if (const auto flushed = settler_.flush_idle(); !flushed) {
            log::warn("spool", "the last acks could not be written, their records are sent again",
                      {{"error", flushed.error().context}});
        }
    };
    co_await run_on(executors_.storage, std::move(flush));
}

}  // namespace opsrelay
