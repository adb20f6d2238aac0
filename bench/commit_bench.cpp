// From ingest to the disk: bursts through the segment queue, and a group commit in a real directory
// (TMPDIR). Look at the CPU time: the time of a commit is its sync's.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <tuple>

#include "core/random.h"
#include "sample_events.h"
#include "spool/options.h"
#include "spool/rocks_store.h"
#include "spool/segment_queue.h"
#include "temp_directory.h"

namespace opsrelay::spool {
namespace {

constexpr std::int64_t kEventsPerGroup = 1500;  // about what a segment holds

Segment make_segment(std::int64_t events) {
    Xoshiro rng{13};
    Segment segment;
    segment.received_unix_ms = 1'777'863'721'007;
    for (std::int64_t i = 0; i < events; ++i) {
        segment.payload += bench::sample_event(rng) + '\n';
        segment.ids.push_back({rng.next(), rng.next()});
        segment.count += 1;
    }
    return segment;
}

// Bursts of so many events, taken as soon as a segment is full.
void queue(benchmark::State& state) {
    const auto segment = make_segment(state.range(0));
    SegmentQueue queue(8_MiB);
    Burst burst;
    std::int64_t waiting = 0;
    for (auto _ : state) {
        burst.segment = segment;
        std::ignore = queue.push(burst);
        waiting += state.range(0);
        if (waiting < kEventsPerGroup) continue;
        while (auto group = queue.take()) benchmark::DoNotOptimize(group->events);
        waiting = 0;
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(queue)->Arg(1)->Arg(20)->Arg(200);

void commit(benchmark::State& state) {
    const bench::TempDirectory directory;
    Options options;
    options.dir = directory.path();
    auto store = open_rocks_store(options);
    if (!store) {
        state.SkipWithError(store.error().context.c_str());
        return;
    }
    const auto segment = make_segment(state.range(0));
    Seq next = 1;
    for (auto _ : state) {
        auto done = (*store)->commit({&segment, 1}, {});
        next += segment.count;
        // Settled at once, so that the spool stays small.
        if (done)
            done = (*store)->ack({.lane = kDefaultLane, .next = next, .dead = {}, .ahead = {}});
        if (!done) {
            state.SkipWithError(done.error().context.c_str());
            break;
        }
    }
    (*store)->close();
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(commit)->Arg(20)->Arg(200)->Arg(1500);

}  // namespace
}  // namespace opsrelay::spool
