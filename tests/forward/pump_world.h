// What the tests of the pump share.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <string>
#include <utility>

#include "forward/pump.h"
#include "forward/scripted_upstream.h"
#include "support/await.h"
#include "support/log_capture.h"
#include "support/mem_store.h"
#include "support/sim_clock.h"

namespace opsrelay::test {

/// The n-th event that commit() writes.
inline std::string event(std::uint64_t n) {
    return fmt::format(R"({{"externalRequestId":"id-{}","provider":"openai","model":"m"}})", n);
}

/// The real pump between a store in memory and a scripted upstream, in virtual time, on one thread.
struct PumpWorld {
    explicit PumpWorld(forward::Options options = {}, spool::DeadLimits limits = {})
        : store(1, {kDefaultLane}, limits),
          upstream(clock),
          settler(io.get_executor(), store, totals),
          pump(io.get_executor(), clock, rng, settler, upstream, options, LaneName{}, registry,
               plan) {
        settler.on_dead_usage([this](const spool::DeadUsage& usage) {
            settler.note_dead_usage(usage);
            pump.note_dead_room();
        });
        settler.adopt(true);
    }
    ~PumpWorld() {
        if (!stopped) stop(seconds{0});
    }
    void start() {
        pump.start(settler.start_of(kDefaultLane));
        pump.set_key("key");
    }
    void commit(std::uint64_t count) {
        spool::Segment segment;
        for (std::uint64_t i = 0; i < count; ++i) {
            segment.payload += event(++written) + "\n";
            segment.ids.push_back({written, 0});
            ++segment.count;
        }
        segment.received_unix_ms = unix_ms(clock.wall_now());
        REQUIRE(store.commit({&segment, 1}, {}).has_value());
        settler.note_committed(kDefaultLane, count);
        pump.notify_records();
    }
    bool run_until_settled(nanoseconds limit = hours{24}) {
        return clock.run_until(
            io, [&] { return settler.spooled() == 0; }, clock.now() + limit);
    }
    void run_for(nanoseconds duration) { clock.run_for(io, duration); }
    template <typename T>
    T await(asio::awaitable<T> task) {
        return test::await(io, clock, std::move(task), TimePoint::max());
    }
    static asio::awaitable<bool> stop_task(forward::Pump& pump, TimePoint deadline) {
        co_await pump.stop(deadline);
        co_return true;
    }
    void stop(nanoseconds within) {
        stopped = true;
        await(stop_task(pump, clock.now() + within));
        CHECK(upstream.in_flight() == 0);
        CHECK(clock.armed() == 0);
    }
    [[nodiscard]] bool balanced() const {
        return totals.recovered + totals.accepted + totals.replayed ==
               totals.delivered + totals.dead + settler.spooled();
    }

    LogCapture log;
    asio::io_context io;
    SimClock clock;
    Xoshiro rng{1};
    MemStore store;
    ScriptedUpstream upstream;
    observe::StorageTotals totals;
    observe::Registry registry;
    PlanState plan;
    spool::Settler settler;
    forward::Pump pump;
    std::uint64_t written = 0;
    bool stopped = false;
};

}  // namespace opsrelay::test
