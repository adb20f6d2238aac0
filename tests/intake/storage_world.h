// Intake's other half for tests: queue, committer and settler over a MemStore under virtual time.
#pragma once

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/task_group.h"
#include "observe/metrics.h"
#include "spool/committer.h"
#include "spool/id_keeper.h"
#include "spool/segment_queue.h"
#include "spool/settler.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay::test {

/// Everything runs on one executor; run() lets it come to rest without moving time beyond `limit`.
struct StorageWorld {
    explicit StorageWorld(spool::Options spool_options = {}) : options(std::move(spool_options)) {
        settler.adopt(true);
        ids.recover([this](const IdHash& id) { recovered.push_back(id); }).value();
    }
    StorageWorld(const StorageWorld&) = delete;
    StorageWorld& operator=(const StorageWorld&) = delete;
    ~StorageWorld() {
        committer.request_stop(clock.now());
        tasks.cancel(asio::cancellation_type::terminal);
        run(hours{1});
    }

    void start() { tasks.spawn("commit", committer.run()); }
    void start_ids() { tasks.spawn("ids", ids.run()); }
    void start_housekeeping() { tasks.spawn("housekeeping", committer.run_housekeeping()); }
    void run(milliseconds limit = milliseconds{0}) {
        clock.run_until(
            io, [] { return false; }, clock.now() + limit);
    }
    /// Hands `count` events over, as one burst. Event n has the id {n, n}; those in `maybe` are
    /// marked, as asked after.
    void push(std::uint32_t count, const std::vector<Position>& maybe = {}) {
        spool::Burst burst;
        burst.segment.received_unix_ms = unix_ms(clock.wall_now());
        for (std::uint32_t i = 0; i < count; ++i) {
            ++handed;
            burst.segment.payload += "{\"n\":" + std::to_string(handed) + "}\n";
            burst.segment.ids.push_back({handed, handed});
            if (std::find(maybe.begin(), maybe.end(), handed) != maybe.end()) {
                burst.segment.maybe.push_back({i, handed, true});
            }
        }
        burst.segment.count = count;
        burst.last = handed;
        burst.totals.received = handed;
        if (queue.push(burst)) committer.wake();
    }
    [[nodiscard]] observe::Ledger ledger() const {
        const auto queued = queue.snapshot();
        return {queued.totals, totals, queued.events + committer.in_hand(), settler.spooled()};
    }

    asio::io_context io;
    SimClock clock;
    spool::Options options;
    MemStore store;
    std::vector<IdHash> recovered;
    observe::Registry registry;
    observe::StorageTotals totals;
    spool::SegmentQueue queue{options.stall_buffer};
    spool::Settler settler{io.get_executor(), store, totals};
    std::vector<Position> settled;
    std::vector<Position> struck;
    spool::IdView view;
    spool::IdKeeper ids{{io.get_executor(), io.get_executor()},
                        clock,
                        store,
                        options,
                        registry,
                        {.changed = [this](spool::IdView now) { view = std::move(now); },
                         .room = [this] { committer.wake(); }}};
    std::vector<LaneId> committed;
    std::optional<Error> failure;
    Position handed = 0;
    spool::Committer committer{
        io.get_executor(),
        clock,
        queue,
        store,
        settler,
        ids,
        options,
        totals,
        registry,
        {.settled = [this](Position p) { settled.push_back(p); },
         .struck =
             [this](const std::vector<Position>& positions) {
                 struck.insert(struck.end(), positions.begin(), positions.end());
             },
         .committed = [this](LaneId lane) { committed.push_back(lane); },
         .drop_oldest = [this](LaneId lane,
                               Seq end) { settler.drop_unread(lane, end, DropReason::oldest); },
         .failed = [this](const Error& error) { failure = error; }}};
    TaskGroup tasks{io.get_executor(), clock};
};

}  // namespace opsrelay::test
