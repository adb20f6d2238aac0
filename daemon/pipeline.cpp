#include "pipeline.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "core/log.h"
#include "core/run_on.h"

namespace opsrelay {

Pipeline::Pipeline(const Executors& executors, Clock& clock, Rng& intake_rng, Rng& forward_rng,
                   spool::Store& store, forward::Upstream& upstream, const Options& options,
                   observe::Registry& registry, PlanState& plan,
                   std::function<void(const Error&)> on_failed)
    : executors_(executors),
      clock_(clock),
      store_(store),
      queue_(options.spool.stall_buffer),
      intake_(executors.ingest, clock, intake_rng, store.salt(), options.intake, queue_, registry,
              [this] { asio::post(executors_.storage, [this] { committer_.wake(); }); }),
      settler_(executors.storage, store, totals_),
      pump_(executors.forward, clock, forward_rng, settler_, upstream, options.forward,
            kDefaultLane, registry, plan),
      committer_(executors.storage, clock, queue_, store, settler_, options.spool, registry,
                 hooks(std::move(on_failed))),
      storage_tasks_(executors.storage, clock) {}

spool::CommitHooks Pipeline::hooks(std::function<void(const Error&)> on_failed) {
    return {
        .settled =
            [this](Position position) {
                asio::post(executors_.ingest, [this, position] { intake_.note_settled(position); });
            },
        .committed = [this] { asio::post(executors_.forward, [this] { pump_.notify_records(); }); },
        .failed =
            [this, on_failed = std::move(on_failed)](const Error& error) {
                asio::post(executors_.ingest, [this] { intake_.note_failed(); });
                on_failed(error);
            },
    };
}

Result<void> Pipeline::recover() {
    settler_.adopt(true);
    return store_.replay_ids(
        [this](const IdHash& id, std::int64_t at) { intake_.recover_id(id, at); });
}

void Pipeline::start() {
    asio::post(executors_.storage, [this] {
        storage_tasks_.spawn("commit", committer_.run());
        storage_tasks_.spawn("housekeeping", committer_.run_housekeeping());
    });
    pump_.start();
}

Snapshot Pipeline::snapshot_here() const {
    const auto queued = queue_.snapshot();
    Snapshot view;
    view.ledger.intake = queued.totals;
    view.ledger.storage = totals_;
    view.ledger.pending = queued.events + committer_.in_hand();
    view.ledger.spooled = settler_.spooled();
    view.store = committer_.last_stats();
    view.trouble = committer_.trouble();
    return view;
}

asio::awaitable<Snapshot> Pipeline::snapshot() {
    auto job = [this] { return snapshot_here(); };
    co_return co_await run_on(executors_.storage, std::move(job));
}

asio::awaitable<void> Pipeline::stop(TimePoint deadline, milliseconds commit_limit) {
    co_await pump_.stop(deadline);
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
