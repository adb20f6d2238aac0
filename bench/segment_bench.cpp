// A segment to bytes and back: LZ4, checksum, offsets. Per commit of 1, 64 or 1,500 events (the
// last is what a segment holds at most: 512 KiB).
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>

#include "core/random.h"
#include "sample_events.h"
#include "spool/id_entry.h"
#include "spool/segment.h"

namespace opsrelay::spool {
namespace {

Segment make_segment(std::int64_t events) {
    Xoshiro rng{7};
    Segment segment;
    segment.received_unix_ms = 1'777'863'721'007;
    for (std::int64_t i = 0; i < events; ++i) {
        segment.payload += bench::sample_event(rng) + '\n';
        segment.ids.push_back({rng.next(), rng.next()});
        segment.count += 1;
    }
    return segment;
}

// Items are events, bytes are theirs before compression.
void report(benchmark::State& state, const Segment& segment, std::size_t stored_bytes) {
    const auto raw = static_cast<std::int64_t>(segment.payload.size());
    state.SetItemsProcessed(state.iterations() * state.range(0));
    state.SetBytesProcessed(state.iterations() * raw);
    state.counters["stored_per_raw"] = static_cast<double>(stored_bytes) / static_cast<double>(raw);
}

void encode(benchmark::State& state) {
    const auto segment = make_segment(state.range(0));
    std::string scratch;
    for (auto _ : state) benchmark::DoNotOptimize(encode_segment(segment, 1, scratch));
    report(state, segment, encode_segment(segment, 1, scratch).size());
}
BENCHMARK(encode)->Arg(1)->Arg(64)->Arg(1500);

void encode_id_entry(benchmark::State& state) {
    const auto segment = make_segment(state.range(0));
    for (auto _ : state) benchmark::DoNotOptimize(encode_ids(segment));
    report(state, segment, encode_ids(segment).size());
}
BENCHMARK(encode_id_entry)->Arg(1)->Arg(64)->Arg(1500);

void decode(benchmark::State& state) {
    const auto segment = make_segment(state.range(0));
    std::string scratch;
    const auto value = encode_segment(segment, 1, scratch);
    for (auto _ : state) {
        auto stored = decode_segment(value, 1);
        if (!stored) state.SkipWithError("the segment does not decode");
        benchmark::DoNotOptimize(stored);
    }
    report(state, segment, value.size());
}
BENCHMARK(decode)->Arg(1)->Arg(64)->Arg(1500);

// What the forwarder gets: decoded, cut to records, each looked at once.
void decode_records(benchmark::State& state) {
    const auto segment = make_segment(state.range(0));
    std::string scratch;
    const auto value = encode_segment(segment, 1, scratch);
    for (auto _ : state) {
        const auto batch = to_batch(decode_segment(value, 1).value(), kDefaultLane, 1);
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < batch.size(); ++i) bytes += batch.record(i).size();
        benchmark::DoNotOptimize(bytes);
    }
    report(state, segment, value.size());
}
BENCHMARK(decode_records)->Arg(1500);

}  // namespace
}  // namespace opsrelay::spool
