// One random list of actions drives RocksStore, MemStore and a model that is simpler than either.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <set>

#include "core/random.h"
#include "samples.h"
#include "spool/rocks_setup.h"
#include "support/mem_store.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

using test::make_dead;
using test::make_segment;

constexpr LaneId kLanes[] = {kDefaultLane, LaneId{1}};

/// What a lane must hold, record by record.
struct ModelLane {
    std::vector<std::string> records;  // number i+1
    Seq next_settle = 1;
    std::map<Seq, std::string> dead;
};

struct World {
    Xoshiro rng;
    test::TempDir dir;
    Options options;
    RocksSetup setup;
    std::unique_ptr<Store> rocks;
    test::MemStore mem{1, {kLanes[0], kLanes[1]}};
    std::map<LaneId, ModelLane> model;
    std::vector<IdHash> offered;
    std::uint32_t run = 0;
    int serial = 0;

    explicit World(std::uint64_t seed) : rng(seed) {
        options.dir = dir / "spool";
        setup.lanes = {{kLanes[0], "default"}, {kLanes[1], "second"}};
        rocks = open_rocks_store(options, setup).value();
    }

    void commit() {
        std::vector<Segment> segments;
        for (const auto lane : kLanes) {
            if (!rng.chance(700)) continue;
            const auto count = static_cast<std::uint32_t>(rng.between(1, 12));
            const auto bytes = rng.chance(100) ? 20'000U : 20U;
            segments.push_back(make_segment(fmt::format("c{}", serial++), count, lane, bytes));
        }
        REQUIRE(rocks->commit(segments, {}).has_value());
        REQUIRE(mem.commit(segments, {}).has_value());
        for (const auto& segment : segments) {
            auto& records = model[segment.lane].records;
            offered.insert(offered.end(), segment.ids.begin(), segment.ids.end());
            for (std::size_t at = 0; at < segment.payload.size();) {
                const auto end = segment.payload.find('\n', at);
                records.push_back(segment.payload.substr(at, end - at));
                at = end + 1;
            }
        }
    }

    void ack(LaneId lane) {
        auto& known = model[lane];
        const auto end = known.records.size() + 1;
        const auto next = known.next_settle + rng.between(0, end - known.next_settle);
        std::vector<DeadLetter> dead;
        for (auto seq = known.next_settle; seq < next; ++seq) {
            if (!rng.chance(100)) continue;
            dead.push_back(make_dead(seq, known.records[seq - 1]));
            known.dead[seq] = known.records[seq - 1];
        }
        REQUIRE(rocks->ack({lane, next, dead}).has_value());
        REQUIRE(mem.ack({lane, next, dead}).has_value());
        known.next_settle = next;
    }

    void replay(LaneId lane) {
        auto& known = model[lane];
        std::vector<Seq> seqs;
        for (const auto& [seq, payload] : known.dead) {
            if (rng.chance(500)) seqs.push_back(seq);
        }
        CHECK(rocks->replay(lane, seqs).value() == seqs.size());
        CHECK(mem.replay(lane, seqs).value() == seqs.size());
        for (const auto seq : seqs) {
            known.records.push_back(known.dead.at(seq));
            known.dead.erase(seq);
        }
    }

    // What is in the log becomes a run, in both.
    void seal() {
        const auto ids = test::ids_of(*rocks);
        CHECK(ids == test::ids_of(mem));
        if (ids.empty()) return;
        for (Store* store : {rocks.get(), static_cast<Store*>(&mem)}) {
            auto job = store->seal_job({{1, run + 1}, 10, 20, store->id_log_end(), 16},
                                       std::make_shared<std::vector<IdHash>>(ids));
            const auto made = job();
            REQUIRE(made.has_value());
            REQUIRE(store->adopt_run(*made).has_value());
        }
        ++run;
    }

    void merge_or_drop() {
        std::vector<RunName> names;
        for (const auto& one : rocks->id_runs()) {
            if (rng.chance(600)) names.push_back(one.info.name);
        }
        if (names.size() < 2 || rng.chance(300)) {
            for (const auto& name : names) {
                CHECK(rocks->drop_runs(std::span(&name, 1)).has_value());
                CHECK(mem.drop_runs(std::span(&name, 1)).has_value());
            }
            return;
        }
        for (Store* store : {rocks.get(), static_cast<Store*>(&mem)}) {
            const auto made = store->merge_job({1, run + 1}, names, 16)();
            REQUIRE(made.has_value());
            REQUIRE(store->adopt_run(*made).has_value());
        }
        ++run;
    }

    void check_ids() {
        CHECK(rocks->find_ids(offered) == mem.find_ids(offered));
        const auto rocks_runs = rocks->id_runs();
        const auto mem_runs = mem.id_runs();
        REQUIRE(rocks_runs.size() == mem_runs.size());
        for (std::size_t i = 0; i < rocks_runs.size(); ++i) {
            CHECK(rocks_runs[i].info.name == mem_runs[i].info.name);
            CHECK(rocks_runs[i].info.ids == mem_runs[i].info.ids);
            CHECK(rocks_runs[i].info.oldest_ms == mem_runs[i].info.oldest_ms);
            CHECK(rocks_runs[i].info.newest_ms == mem_runs[i].info.newest_ms);
        }
    }

    void restart(bool clean) {
        if (clean) rocks->close();
        rocks.reset();
        rocks = open_rocks_store(options, setup).value();
        mem.restart();
    }

    void check_read(Store& store, LaneId lane, Seq from) {
        const auto& known = model[lane];
        const auto batch = store.read(lane, from).value();
        CHECK(batch.lost == 0);
        const auto expected_from = std::max(from, known.next_settle);
        if (expected_from > known.records.size()) {
            CHECK(batch.size() == 0);
            CHECK(batch.first_seq == known.records.size() + 1);
            return;
        }
        CHECK(batch.first_seq == expected_from);
        REQUIRE(batch.size() > 0);
        for (std::size_t i = 0; i < batch.size(); ++i) {
            CHECK(batch.record(i) == known.records.at(batch.first_seq + i - 1));
        }
    }

    void check() {
        std::size_t dead = 0;
        for (const auto lane : kLanes) {
            const auto from = rng.between(1, model[lane].records.size() + 1);
            check_read(*rocks, lane, from);
            check_read(mem, lane, from);
            dead += model[lane].dead.size();
        }
        CHECK(rocks->stats().dead_letters == dead);
        CHECK(mem.stats().dead_letters == dead);
        const auto rocks_lanes = rocks->lanes();
        const auto mem_lanes = mem.lanes();
        REQUIRE(rocks_lanes.size() == mem_lanes.size());
        for (std::size_t i = 0; i < rocks_lanes.size(); ++i) {
            const auto& known = model[rocks_lanes[i].lane];
            CHECK(rocks_lanes[i].lane == mem_lanes[i].lane);
            CHECK(rocks_lanes[i].next_settle == known.next_settle);
            CHECK(mem_lanes[i].next_settle == known.next_settle);
            CHECK(rocks_lanes[i].next_write == known.records.size() + 1);
            CHECK(mem_lanes[i].next_write == known.records.size() + 1);
        }
    }

    void step() {
        const auto lane = kLanes[rng.between(0, 1)];
        const auto dice = rng.between(0, 99);
        if (dice < 42) return commit();
        if (dice < 47) return seal();
        if (dice < 50) return merge_or_drop();
        if (dice < 85) return ack(lane);
        if (dice < 92) return replay(lane);
        if (dice < 95) {
            CHECK(rocks->sync().has_value());
            CHECK(mem.sync().has_value());
            return;
        }
        if (dice < 97) {
            REQUIRE(rocks->reopen().has_value());
            REQUIRE(mem.reopen().has_value());
            return;
        }
        restart(dice == 97);
    }
};

TEST_CASE("spool/store: RocksStore, MemStore and the model agree on random actions") {
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        CAPTURE(seed);
        World world(seed);
        for (int action = 0; action < 150; ++action) {
            CAPTURE(action);
            world.step();
            world.check();
            if (action % 10 == 0) world.check_ids();
        }
        world.check_ids();
        CHECK(test::ids_of(*world.rocks) == test::ids_of(world.mem));
    }
}

}  // namespace
}  // namespace opsrelay::spool
