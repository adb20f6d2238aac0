// The id table: hashing, fresh ids with a full table, repeats, and what a restart puts back.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "admit/dedupe.h"
#include "core/random.h"
#include "sample_events.h"

namespace opsrelay::admit {
namespace {

constexpr std::uint64_t kSalt = 0x5eed;
constexpr std::int64_t kReceivedMs = 1'777'863'721'007;

IdHash random_hash(Rng& rng) { return {rng.next(), rng.next()}; }

void hash_uuid(benchmark::State& state) {
    Xoshiro rng{7};
    const auto id = bench::sample_id(rng);
    for (auto _ : state) benchmark::DoNotOptimize(hash_id(kSalt, kDefaultLane, id));
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(id.size()));
}
BENCHMARK(hash_uuid);

// Every id is new and the tables are full, so the oldest generation is forgotten now and then.
void admit_fresh(benchmark::State& state) {
    Xoshiro rng{7};
    DedupeIndex index({.ids_max = static_cast<std::size_t>(state.range(0))});
    Position position = 0;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
        benchmark::DoNotOptimize(index.admit(random_hash(rng), 1, ++position, kReceivedMs));
    }
    for (auto _ : state) {
        benchmark::DoNotOptimize(index.admit(random_hash(rng), 1, ++position, kReceivedMs));
    }
    state.SetItemsProcessed(state.iterations());
    state.counters["table_bytes"] = static_cast<double>(index.bytes().count);
}
BENCHMARK(admit_fresh)->Arg(4096)->Arg(262'144);

// Repeats of remembered ids, in an order that the cache cannot guess.
void admit_repeat(benchmark::State& state) {
    Xoshiro rng{7};
    DedupeIndex index({.ids_max = static_cast<std::size_t>(state.range(0))});
    std::vector<IdHash> ids(static_cast<std::size_t>(state.range(0)) / 2);
    Position position = 0;
    for (auto& id : ids) {
        id = random_hash(rng);
        benchmark::DoNotOptimize(index.admit(id, 1, ++position, kReceivedMs));
    }
    for (auto _ : state) {
        const auto& id = ids[rng.next() % ids.size()];
        benchmark::DoNotOptimize(index.admit(id, 1, position + 1, kReceivedMs));
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(admit_repeat)->Arg(4096)->Arg(262'144);

// A start: the table grows from nothing to full. One iteration is one start.
void recover_table(benchmark::State& state) {
    Xoshiro rng{7};
    std::vector<IdHash> ids(static_cast<std::size_t>(state.range(0)));
    for (auto& id : ids) id = random_hash(rng);
    for (auto _ : state) {
        DedupeIndex index({.ids_max = ids.size()});
        for (const auto& id : ids) index.recover(id, kReceivedMs);
        benchmark::DoNotOptimize(index.size());
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(recover_table)->Arg(262'144)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace opsrelay::admit
