// Recognising repeats: hashing, admission before filters of many ids, and the lookup on disk of
// what a filter knows. Arguments: ids held in runs, repeats of old ids per mille.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "admit/dedupe.h"
#include "core/random.h"
#include "sample_events.h"
#include "spool/rocks_store.h"

namespace opsrelay {
namespace {

constexpr std::uint64_t kSalt = 0x5eed;
constexpr std::size_t kGroup = 16;  // as intake does it
constexpr std::uint32_t kGenerations = 12;

// The i-th id that was ever seen. Both halves as random as a hash.
IdHash id_of(std::uint64_t i) {
    const auto mix = [](std::uint64_t x) {
        x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
        x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
        return x ^ (x >> 31U);
    };
    return {mix(2 * i * 0x9e3779b97f4a7c15ULL), mix((2 * i + 1) * 0x9e3779b97f4a7c15ULL)};
}

unsigned bits_for(std::uint64_t ids) { return ids > 8'000'000 ? 12 : 16; }

std::vector<std::shared_ptr<const admit::IdFilter>> make_filters(std::uint64_t held) {
    std::vector<std::shared_ptr<const admit::IdFilter>> filters;
    const auto each = held / kGenerations;
    for (std::uint32_t run = 0; run < kGenerations; ++run) {
        auto filter = std::make_shared<admit::IdFilter>(each, bits_for(held));
        for (std::uint64_t i = 0; i < each; ++i) filter->insert(id_of(run * each + i));
        filters.push_back(std::move(filter));
    }
    return filters;
}

double resident_mib() {
    std::ifstream status("/proc/self/status");
    std::string word;
    while (status >> word) {
        if (word != "VmRSS:") continue;
        double kib = 0;
        status >> kib;
        return kib / 1024;
    }
    return 0;
}

void hash_uuid(benchmark::State& state) {
    Xoshiro rng{7};
    const auto id = bench::sample_id(rng);
    for (auto _ : state) benchmark::DoNotOptimize(admit::hash_id(kSalt, kDefaultLane, id));
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(id.size()));
}
BENCHMARK(hash_uuid);

// Tables and filters only. An iteration is a group of events.
void admit_ids(benchmark::State& state) {
    const auto held = static_cast<std::uint64_t>(state.range(0));
    const auto repeats = static_cast<std::uint32_t>(state.range(1));
    admit::DedupeIndex index({});
    auto filters = make_filters(held);
    std::uint64_t filter_bytes = 0;
    for (const auto& filter : filters) filter_bytes += filter->bytes().count;
    index.set_filters(std::move(filters));
    Xoshiro rng{7};
    auto next = held;
    Position position = 0;
    std::int64_t maybes = 0;
    std::vector<IdHash> group(kGroup);
    for (auto _ : state) {
        for (auto& id : group) {
            id = rng.chance(repeats) ? id_of(rng.next() % held) : id_of(next++);
            index.prefetch(id);
        }
        for (const auto& id : group) {
            const auto verdict = index.admit(id, 1, ++position);
            maybes += verdict.kind == admit::Verdict::Kind::maybe ? 1 : 0;
        }
        // As runs are sealed.
        if (position % 65'536 < kGroup && position > 65'536) index.drop_covered(position - 65'536);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kGroup));
    state.counters["maybe_percent"] =
        100.0 * static_cast<double>(maybes) / static_cast<double>(state.items_processed());
    state.counters["table_MiB"] = static_cast<double>(index.bytes().count) / (1U << 20U);
    state.counters["filter_MiB"] = static_cast<double>(filter_bytes) / (1U << 20U);
}
BENCHMARK(admit_ids)->ArgsProduct({{1'000'000, 10'000'000}, {0, 10, 500}});

/// A spool with that many ids in closed generations; removed with the process's last use of it.
class StoredIds {
public:
    explicit StoredIds(std::uint64_t held) {
        const auto* const base = std::getenv("TMPDIR");
        dir_ = std::string(base == nullptr ? "/tmp" : base) + "/dedupe_bench.XXXXXX";
        if (::mkdtemp(dir_.data()) == nullptr) std::abort();
        options_.dir = dir_ + "/spool";
        open();
        const auto each = held / kGenerations;
        for (std::uint32_t run = 0; run < kGenerations; ++run) {
            auto ids = std::make_shared<std::vector<IdHash>>();
            for (std::uint64_t i = 0; i < each; ++i) ids->push_back(id_of(run * each + i));
            const spool::SealSpec spec{{run + 1, run + 1}, 1, 2, 1, bits_for(held)};
            const auto made = store_->seal_job(spec, std::move(ids))();
            if (!made || !store_->adopt_run(*made)) std::abort();
        }
        store_->close();
        open();
    }
    StoredIds(const StoredIds&) = delete;
    StoredIds& operator=(const StoredIds&) = delete;
    ~StoredIds() {
        store_.reset();
        std::filesystem::remove_all(dir_);
    }
    void open() {
        store_.reset();
        store_ = spool::open_rocks_store(options_).value();
    }
    [[nodiscard]] spool::Store& store() { return *store_; }

private:
    std::string dir_;
    spool::Options options_;
    std::unique_ptr<spool::Store> store_;
};

// What the storage thread pays for a maybe that is a repeat: filters, then a page.
void find_on_disk(benchmark::State& state) {
    const auto held = static_cast<std::uint64_t>(state.range(0));
    StoredIds stored(held);
    Xoshiro rng{7};
    std::vector<IdHash> group(kGroup);
    for (auto _ : state) {
        for (auto& id : group) id = id_of(rng.next() % (held / kGenerations * kGenerations));
        const auto found = stored.store().find_ids(group);
        if (std::find(found.begin(), found.end(), false) != found.end()) std::abort();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kGroup));
    state.counters["rss_MiB"] = resident_mib();
    state.counters["disk_MiB"] =
        static_cast<double>(stored.store().stats().disk.count) / (1U << 20U);
}
BENCHMARK(find_on_disk)->Arg(1'000'000)->Arg(10'000'000);

// A start: every filter is read.
void open_spool(benchmark::State& state) {
    StoredIds stored(static_cast<std::uint64_t>(state.range(0)));
    for (auto _ : state) stored.open();
    state.counters["rss_MiB"] = resident_mib();
}
BENCHMARK(open_spool)->Arg(1'000'000)->Arg(10'000'000)->Unit(benchmark::kMillisecond);

// Durable ids become a run, off the storage thread.
void seal_run(benchmark::State& state) {
    StoredIds stored(kGenerations);
    std::uint64_t next = 0;
    for (auto _ : state) {
        auto ids = std::make_shared<std::vector<IdHash>>();
        for (std::int64_t i = 0; i < state.range(0); ++i) ids->push_back(id_of(++next));
        auto job = stored.store().seal_job({{99, 99}, 1, 2, 1, 16}, std::move(ids));
        if (!job()) std::abort();
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(seal_run)->Arg(65'536)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace opsrelay
