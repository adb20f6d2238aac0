#include "pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "core/assert.h"
#include "core/log.h"
#include "core/run_on.h"

namespace opsrelay {

namespace {

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
    for (const auto& lane : options.lanes) {
        pumps_.emplace_back(executors.forward, clock, forward_rng, settler_, lane.upstream,
                            lane.forward, lane.name, registry, lane.plan);
    }
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
    if (!configured(lane)) return;
    asio::post(executors_.forward, [this, lane] { pump(lane).notify_records(); });
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
        .committed =
            [this](LaneId lane) {
                asio::post(executors_.forward, [this, lane] { pump(lane).notify_records(); });
            },
        .drop_oldest = [this](LaneId lane, Seq end) { drop_oldest(lane, end); },
        .failed =
            [this, on_failed = std::move(on_failed)](const Error& error) {
                asio::post(executors_.ingest, [this] { intake_.note_failed(); });
                on_failed(error);
            },
    };
}

void Pipeline::report_unconfigured() const {
    for (const auto& name : unconfigured_) {
        const auto spooled = settler_.spooled(name.lane);
        if (spooled == 0) continue;
        log::warn("relay", "a lane with records is not configured; it keeps them, nothing is sent",
                  {{"lane", name.name},
                   {"records", spooled},
                   {"next", fmt::format("configure it again, or end its records with `opsrelay "
                                        "spool purge --lane {}`",
                                        name.name)}});
    }
}

// On the storage thread. Which lanes have a pump does not change.
void Pipeline::drop_oldest(LaneId lane, Seq end) {
    const bool sent = std::any_of(pumps_.begin(), pumps_.end(),
                                  [lane](const auto& pump) { return pump.lane().lane == lane; });
    if (!sent) return settler_.drop_unread(lane, end, DropReason::oldest);
    asio::post(executors_.forward,
               [this, lane, end] { pump(lane).drop_below(end, DropReason::oldest); });
}

Result<void> Pipeline::recover() {
    settler_.adopt(true);
    settler_.on_dead_full([this](bool full) {
        asio::post(executors_.forward, [this, full] {
            for (auto& pump : pumps_) pump.note_dead_full(full);
        });
    });
    for (const auto& lane : store_.lanes()) {
        if (!configured(lane.lane)) unconfigured_.push_back({lane.lane, lane.name});
    }
    report_unconfigured();
    return ids_.recover([this](const IdHash& id) { intake_.recover_id(id); });
}

void Pipeline::start() {
    asio::post(executors_.storage, [this] {
        storage_tasks_.spawn("ids", ids_.run());
        storage_tasks_.spawn("commit", committer_.run());
        storage_tasks_.spawn("housekeeping", committer_.run_housekeeping());
    });
    for (auto& pump : pumps_) pump.start();
}

Snapshot Pipeline::snapshot_here() const {
    const auto queued = queue_.snapshot();
    Snapshot view;
    view.ledger.intake = queued.totals;
    view.ledger.storage = totals_;
    view.ledger.pending = queued.events + committer_.in_hand();
    view.ledger.spooled = settler_.spooled();
    for (const auto& pump : pumps_) {
        view.spooled_by_lane.push_back(settler_.spooled(pump.lane().lane));
    }
    for (const auto& name : unconfigured_) {
        view.unconfigured.push_back({name, settler_.spooled(name.lane)});
    }
    view.store = committer_.last_stats();
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
