// The spool without sockets and network: a backlog in a real directory (TMPDIR) is read, segment by
// segment, decompressed, cut to records and acknowledged. Filling it is not timed.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>

#include "core/random.h"
#include "sample_events.h"
#include "spool/options.h"
#include "spool/rocks_store.h"
#include "temp_directory.h"

namespace opsrelay::spool {
namespace {

constexpr std::int64_t kEventsPerSegment = 1000;

// An empty string, or what failed.
std::string fill(Store& store, std::int64_t events) {
    Xoshiro rng{11};
    Segment segment;
    segment.received_unix_ms = 1'777'863'721'007;
    for (std::int64_t i = 0; i < kEventsPerSegment; ++i) {
        segment.payload += bench::sample_event(rng) + '\n';
        segment.ids.push_back({rng.next(), rng.next()});
        segment.count += 1;
    }
    for (std::int64_t done = 0; done < events; done += kEventsPerSegment) {
        if (const auto written = store.commit({&segment, 1}, {}); !written) {
            return written.error().context;
        }
    }
    return {};
}

// Reads and acknowledges everything; an empty string, or what failed.
std::string drain(Store& store, std::uint64_t& bytes) {
    const auto end = store.lanes().front().next_write;
    for (Seq next = 1; next < end;) {
        const auto batch = store.read(kDefaultLane, next);
        if (!batch) return batch.error().context;
        for (std::size_t i = 0; i < batch->size(); ++i) bytes += batch->record(i).size();
        next = batch->first_seq + batch->size();
        if (auto done = store.ack({.lane = kDefaultLane, .next = next, .dead = {}, .ahead = {}});
            !done) {
            return done.error().context;
        }
    }
    return {};
}

void read_and_acknowledge(benchmark::State& state) {
    std::uint64_t bytes = 0;
    for (auto _ : state) {
        state.PauseTiming();
        const bench::TempDirectory directory;
        Options options;
        options.dir = directory.path();
        options.bytes_max = 4_GiB;
        auto store = open_rocks_store(options);
        auto failure = store ? fill(**store, state.range(0)) : store.error().context;
        state.ResumeTiming();
        if (failure.empty()) failure = drain(**store, bytes);
        state.PauseTiming();
        if (store) (*store)->close();
        state.ResumeTiming();
        if (!failure.empty()) {
            state.SkipWithError(failure.c_str());
            break;
        }
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
    state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
}
BENCHMARK(read_and_acknowledge)
    ->Arg(20'000)
    ->Arg(1'000'000)
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace opsrelay::spool
