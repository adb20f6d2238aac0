// Ids on a disk whose power can fail: whatever is being sealed, merged or dropped, every id that
// was committed is known afterwards, in the log or in a run.
#include <doctest/doctest.h>
#include <rocksdb/env.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/random.h"
#include "samples.h"
#include "spool/crash_disk.h"
#include "spool/rocks_setup.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

struct World {
    test::LogCapture logs;
    Xoshiro rng;
    test::TempDir dir;
    std::shared_ptr<test::CrashDisk> disk;
    std::unique_ptr<rocksdb::Env> env;
    Options options;
    RocksSetup setup;
    std::unique_ptr<Store> store;
    std::vector<IdHash> committed;
    std::vector<IdHash> unsealed;  // committed since the last seal
    std::vector<RunName> adopted;  // runs that are durable and neither merged nor dropped
    std::uint32_t runs = 0;
    std::map<std::string, int> met;

    explicit World(std::uint64_t seed)
        : rng(seed),
          disk(std::make_shared<test::CrashDisk>(rocksdb::FileSystem::Default(), seed)),
          env(rocksdb::NewCompositeEnv(disk)) {
        options.dir = dir / "spool";
        setup.env = env.get();
        store = open_rocks_store(options, setup).value();
    }

    void commit() {
        std::vector<IdHash> ids(rng.between(1, 60));
        for (auto& id : ids) id = {rng.next(), rng.next()};
        auto segment = test::make_segment("s", static_cast<std::uint32_t>(ids.size()));
        segment.ids = ids;
        REQUIRE(store->commit(std::span(&segment, 1), {}).has_value());
        committed.insert(committed.end(), ids.begin(), ids.end());
        unsealed.insert(unsealed.end(), ids.begin(), ids.end());
    }

    void seal() {
        if (unsealed.empty()) return;
        const RunName name{1, ++runs};
        auto job = store->seal_job({name, 100, 200, store->id_log_end(), 16},
                                   std::make_shared<std::vector<IdHash>>(unsealed));
        const auto made = job();
        REQUIRE(made.has_value());
        if (rng.chance(300)) return crash("made");  // a file that never became part of it
        REQUIRE(store->adopt_run(*made).has_value());
        adopted.push_back(name);
        unsealed.clear();
        if (rng.chance(400)) crash("sealed");
    }

    void merge() {
        if (adopted.size() < 2) return;
        const RunName name{1, ++runs};
        auto job = store->merge_job(name, adopted, 16);
        const auto made = job();
        REQUIRE(made.has_value());
        if (rng.chance(300)) return crash("merging");
        REQUIRE(store->adopt_run(*made).has_value());
        adopted = {name};
        if (rng.chance(400)) crash("merged");
    }

    void crash(const std::string& where) {
        const bool power_loss = rng.chance(700);
        ++met[where + (power_loss ? " power loss" : " kill")];
        disk->cut();
        store.reset();
        disk->restore(power_loss);
        store = open_rocks_store(options, setup).value();
        check();
    }

    void check() const {
        auto known = test::ids_of(*store);
        std::sort(known.begin(), known.end());
        const auto in_runs = store->find_ids(committed);
        std::size_t lost = 0;
        for (std::size_t i = 0; i < committed.size(); ++i) {
            const bool logged = std::binary_search(known.begin(), known.end(), committed[i]);
            if (!in_runs[i] && !logged) ++lost;
        }
        CHECK(lost == 0);
        std::vector<RunName> there;
        for (const auto& run : store->id_runs()) there.push_back(run.info.name);
        CHECK(there == adopted);
    }
};

TEST_CASE("spool/rocks_ids: a power loss at any step of a seal or a merge forgets no id") {
    std::map<std::string, int> met;
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        CAPTURE(seed);
        World world(seed);
        for (int step = 0; step < 60; ++step) {
            CAPTURE(step);
            const auto dice = world.rng.between(0, 99);
            if (dice < 45) {
                world.commit();
            } else if (dice < 75) {
                world.seal();
            } else if (dice < 85) {
                world.merge();
            } else if (dice < 95) {
                world.crash("idle");
            } else {
                world.store->close();
                world.store.reset();
                world.store = open_rocks_store(world.options, world.setup).value();
                world.check();
            }
        }
        for (const auto& [what, times] : world.met) met[what] += times;
    }
    for (const auto* const where : {"made", "sealed", "merging", "merged", "idle"}) {
        CHECK_MESSAGE(met[std::string(where) + " power loss"] > 0, where);
        CHECK_MESSAGE(met[std::string(where) + " kill"] > 0, where);
    }
}

}  // namespace
}  // namespace opsrelay::spool
