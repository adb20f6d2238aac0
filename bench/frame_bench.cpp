// Bytes of a stream to lines: reads of so many bytes, filled up to whole events; 1 is a read for
// each event.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "core/random.h"
#include "listen/line_framer.h"
#include "listen/options.h"
#include "sample_events.h"

namespace opsrelay::listen {
namespace {

std::string make_lines(std::size_t bytes) {
    Xoshiro rng{5};
    std::string lines;
    while (lines.size() < bytes) lines += bench::sample_event(rng) + '\n';
    return lines;
}

void frame(benchmark::State& state) {
    const auto lines = make_lines(static_cast<std::size_t>(state.range(0)));
    LineFramer framer(kEventBytesMax.count);
    std::int64_t events = 0;
    for (auto _ : state) {
        framer.feed(lines);
        while (const auto line = framer.next()) {
            benchmark::DoNotOptimize(line->bytes.data());
            ++events;
        }
    }
    state.SetItemsProcessed(events);
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(lines.size()));
}
BENCHMARK(frame)->Arg(1)->Arg(4096)->Arg(64 << 10);

}  // namespace
}  // namespace opsrelay::listen
