// One random list of actions drives RocksStore, MemStore and a model that is simpler than either.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>

#include "core/random.h"
#include "samples.h"
#include "spool/deferred.h"
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
    std::string name;
    bool paused = false;
    std::map<Seq, DeferredRecord> deferred;
    std::string memo;
};

struct World {
    Xoshiro rng;
    test::TempDir dir;
    Options options;
    RocksSetup setup;
    std::unique_ptr<Store> rocks;
    test::MemStore mem{1, {kLanes[0], kLanes[1]}};
    std::map<LaneId, ModelLane> model;
    std::map<DeadKey, std::string> dead;  // every dead letter and its event
    std::vector<IdHash> offered;
    std::uint32_t run = 0;
    int serial = 0;
    std::uint64_t next_rejected = 1;

    explicit World(std::uint64_t seed) : rng(seed) {
        options.dir = dir / "spool";
        setup.lanes = {{kLanes[0], "default"}, {kLanes[1], "lane-1"}};
        rocks = open_rocks_store(options, setup).value();
        model[kLanes[0]].name = "default";
        // MemStore calls the lanes that it begins with by their number.
        model[kLanes[1]].name = "lane-1";
    }

    // Some without their event, which cannot be put back.
    std::vector<DeadLetter> reject() {
        std::vector<DeadLetter> rejected;
        while (rng.chance(300)) {
            const auto lane = kLanes[rng.between(0, 1)];
            const auto event = rng.chance(300) ? std::string{} : fmt::format("bad-{}", serial++);
            rejected.push_back(make_dead(0, event, DeadKind::admission));
            rejected.back().lane = lane;
            dead[{DeadKind::admission, lane, next_rejected++}] = event;
        }
        return rejected;
    }

    void commit() {
        std::vector<Segment> segments;
        for (const auto& [lane, known] : model) {
            if (!rng.chance(700)) continue;
            const auto count = static_cast<std::uint32_t>(rng.between(1, 12));
            const auto bytes = rng.chance(100) ? 20'000U : 20U;
            segments.push_back(make_segment(fmt::format("c{}", serial++), count, lane, bytes));
        }
        const auto rejected = reject();
        REQUIRE(rocks->commit(segments, rejected).has_value());
        REQUIRE(mem.commit(segments, rejected).has_value());
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
        std::vector<DeadLetter> refused;
        for (auto seq = known.next_settle; seq < next; ++seq) {
            if (!rng.chance(100)) continue;
            refused.push_back(make_dead(seq, known.records[seq - 1]));
            dead[{DeadKind::upstream, lane, seq}] = known.records[seq - 1];
        }
        std::vector<DeferredRecord> deferred;
        std::vector<Seq> ended{1'000'000};  // unknown
        std::optional<std::string> memo;
        if (rng.chance(200)) memo = fmt::format("memo-{}", serial++);
        defer(lane, next, deferred, ended);
        const Ack ack{lane, next, refused, {}, deferred, ended, memo};
        REQUIRE(rocks->ack(ack).has_value());
        REQUIRE(mem.ack(ack).has_value());
        known.next_settle = next;
        known.memo = memo.value_or(known.memo);
    }

    // Some that are settled now wait apart; of those that do, some end and some wait again.
    void defer(LaneId lane, Seq next, std::vector<DeferredRecord>& put, std::vector<Seq>& ended) {
        auto& known = model[lane];
        std::set<Seq> ends;
        for (const auto& [seq, record] : known.deferred) {
            if (rng.chance(200)) ends.insert(seq);
        }
        for (auto seq = known.next_settle; seq < next; ++seq) {
            if (!rng.chance(150) || dead.contains({DeadKind::upstream, lane, seq})) continue;
            put.push_back(test::make_deferred(seq, known.records[seq - 1]));
        }
        for (const auto& [seq, record] : known.deferred) {
            if (ends.contains(seq) || !rng.chance(200)) continue;
            put.push_back(record);
            put.back().due_unix_ms += 1000;
            ++put.back().failures;
        }
        for (const auto seq : ends) known.deferred.erase(seq);
        for (const auto& record : put) known.deferred[record.seq] = record;
        ended.insert(ended.end(), ends.begin(), ends.end());
    }

    void check_deferred(Store& store, const LaneState& state) {
        const auto& known = model[state.lane].deferred;
        REQUIRE(state.deferred.size() == known.size());
        std::size_t i = 0;
        for (const auto& [seq, record] : known) {
            const auto& entry = state.deferred[i++];
            CHECK(entry.seq == seq);
            CHECK(entry.due_unix_ms == record.due_unix_ms);
            CHECK(entry.received_unix_ms == record.received_unix_ms);
            CHECK(entry.bytes == deferred_bytes(record));
            if (!rng.chance(200)) continue;
            const auto read = store.read_deferred(state.lane, seq).value();
            REQUIRE(read.has_value());
            CHECK(read->payload == record.payload);
            CHECK(read->failures == record.failures);
            CHECK(read->due_unix_ms == record.due_unix_ms);
        }
        CHECK_FALSE(store.read_deferred(state.lane, 1'000'000).value().has_value());
    }

    std::vector<DeadKey> some_keys(std::optional<LaneId> lane) {
        std::vector<DeadKey> keys;
        for (const auto& [key, event] : dead) {
            if ((!lane || key.lane == *lane) && rng.chance(500)) keys.push_back(key);
        }
        return keys;
    }

    void replay(LaneId lane) {
        std::vector<Revival> letters;
        std::size_t expected = 0;
        for (const auto& key : some_keys(lane)) {
            const auto other = rng.chance(300) ? fmt::format("mended-{}", serial++) : std::string{};
            letters.push_back({key, other});
            const auto event = other.empty() ? dead.at(key) : other;
            if (event.empty()) continue;
            ++expected;
            model[lane].records.push_back(event);
            dead.erase(key);
        }
        CHECK(rocks->replay(lane, letters).value() == expected);
        CHECK(mem.replay(lane, letters).value() == expected);
    }

    // One that there is keeps its number, a new one gets the next.
    void make_lane() {
        const auto name = fmt::format("made-{}", rng.between(0, 3));
        const auto known = std::find_if(model.begin(), model.end(),
                                        [&](const auto& lane) { return lane.second.name == name; });
        const LaneId expected =
            known != model.end() ? known->first : LaneId{static_cast<std::uint16_t>(model.size())};
        CHECK(rocks->make_lane(name).value() == expected);
        CHECK(mem.make_lane(name).value() == expected);
        model[expected].name = name;
    }

    void pause(LaneId lane) {
        auto& known = model[lane];
        known.paused = rng.chance(500);
        CHECK(rocks->set_paused(lane, known.paused).has_value());
        CHECK(mem.set_paused(lane, known.paused).has_value());
    }

    void purge() {
        auto keys = some_keys(std::nullopt);
        const auto known = keys.size();
        for (const auto& key : keys) dead.erase(key);
        keys.push_back({DeadKind::upstream, kDefaultLane, 1'000'000});
        CHECK(rocks->purge_dead(keys).value() == known);
        CHECK(mem.purge_dead(keys).value() == known);
    }

    void check_letters() {
        const auto rocks_letters = test::all_dead(*rocks, rng.between(1, 20));
        const auto mem_letters = test::all_dead(mem, rng.between(1, 20));
        REQUIRE(rocks_letters.size() == dead.size());
        REQUIRE(mem_letters.size() == dead.size());
        std::size_t i = 0;
        std::uint64_t refused = 0;
        for (const auto& [key, event] : dead) {
            CHECK(key_of(rocks_letters[i]) == key);
            CHECK(key_of(mem_letters[i]) == key);
            CHECK(rocks_letters[i].payload == event);
            CHECK(mem_letters[i].payload == event);
            if (key.kind == DeadKind::upstream) ++refused;
            ++i;
        }
        CHECK(rocks->dead_usage().letters == refused);
        CHECK(rocks->dead_usage().bytes == mem.dead_usage().bytes);
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
        for (const auto& [lane, known] : model) {
            const auto from = rng.between(1, known.records.size() + 1);
            check_read(*rocks, lane, from);
            check_read(mem, lane, from);
        }
        CHECK(rocks->stats().dead_letters == dead.size());
        CHECK(mem.stats().dead_letters == dead.size());
        const auto rocks_lanes = rocks->lanes();
        const auto mem_lanes = mem.lanes();
        REQUIRE(rocks_lanes.size() == model.size());
        REQUIRE(mem_lanes.size() == model.size());
        for (std::size_t i = 0; i < rocks_lanes.size(); ++i) {
            const auto& known = model[rocks_lanes[i].lane];
            CHECK(rocks_lanes[i].lane == mem_lanes[i].lane);
            CHECK(rocks_lanes[i].name == known.name);
            CHECK(mem_lanes[i].name == known.name);
            CHECK(rocks_lanes[i].paused == known.paused);
            CHECK(mem_lanes[i].paused == known.paused);
            CHECK(rocks_lanes[i].next_settle == known.next_settle);
            CHECK(mem_lanes[i].next_settle == known.next_settle);
            CHECK(rocks_lanes[i].next_write == known.records.size() + 1);
            CHECK(mem_lanes[i].next_write == known.records.size() + 1);
            CHECK(rocks_lanes[i].memo == known.memo);
            CHECK(mem_lanes[i].memo == known.memo);
            CHECK(rocks_lanes[i].spooled() == mem_lanes[i].spooled());
            check_deferred(*rocks, rocks_lanes[i]);
            check_deferred(mem, mem_lanes[i]);
        }
    }

    void step() {
        const LaneId lane{static_cast<std::uint16_t>(rng.between(0, model.size() - 1))};
        const auto dice = rng.between(0, 99);
        if (dice < 3) return make_lane();
        if (dice < 6) return pause(lane);
        if (dice < 42) return commit();
        if (dice < 47) return seal();
        if (dice < 50) return merge_or_drop();
        if (dice < 82) return ack(lane);
        if (dice < 89) return replay(lane);
        if (dice < 92) return purge();
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
            if (action % 10 == 5) world.check_letters();
        }
        world.check_ids();
        world.check_letters();
        CHECK(test::ids_of(*world.rocks) == test::ids_of(world.mem));
    }
}

}  // namespace
}  // namespace opsrelay::spool
