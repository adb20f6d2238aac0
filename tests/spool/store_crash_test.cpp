// Crashes: one random list of actions drives RocksStore on a disk whose power can fail,
// MemStore, and a book of promises that is simpler than either.
#include <doctest/doctest.h>
#include <rocksdb/env.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>

#include "core/random.h"
#include "samples.h"
#include "spool/crash_disk.h"
#include "spool/rocks_setup.h"
#include "support/log_capture.h"
#include "support/mem_store.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::Landed;
using test::make_dead;
using test::make_segment;
using test::MemStore;
using test::StoreCall;

constexpr LaneId kLanes[] = {kDefaultLane, LaneId{1}, LaneId{2}};
constexpr std::size_t kWorldsMax = 16;

/// What the store promised about a lane.
struct Promises {
    std::map<Seq, std::string> confirmed;  // by number: commit() or replay() returned
    std::set<Seq> settled;                 // some ack said so: may be gone
    std::set<Seq> dead;                    // ever a dead letter
    std::set<Seq> damaged;
};

/// What a lane's outcomes are, as the settler keeps them: rebuilt from the store at each start.
struct Outcomes {
    Seq next = 1;
    std::set<Seq> ahead;
    std::set<Seq> deferred;
};

/// Everything that a caller can see of a lane.
struct View {
    LaneState state;
    std::vector<std::string> records;
    std::vector<std::string> deferred;
    bool operator==(const View& other) const {
        return state.next_settle == other.state.next_settle &&
               state.next_write == other.state.next_write && state.ahead == other.state.ahead &&
               state.deferred == other.state.deferred && deferred == other.deferred &&
               records == other.records;
    }
};

struct World {
    test::LogCapture logs;
    Xoshiro rng;
    test::TempDir dir;
    std::shared_ptr<test::CrashDisk> disk;
    std::unique_ptr<rocksdb::Env> env;
    Options options;
    RocksSetup setup;
    std::unique_ptr<Store> rocks;
    /// What may be true: after a failed sync, and after a power loss, nobody knows which.
    std::vector<MemStore> worlds;
    std::map<LaneId, Promises> promises;
    std::map<LaneId, Outcomes> outcomes;
    int serial = 0;
    std::map<std::string, int> met;

    explicit World(std::uint64_t seed)
        : rng(seed),
          disk(std::make_shared<test::CrashDisk>(rocksdb::FileSystem::Default(), seed)),
          env(rocksdb::NewCompositeEnv(disk)) {
        options.dir = dir / "spool";
        setup.env = env.get();
        setup.lanes.clear();
        std::vector<LaneId> lanes;
        for (const auto lane : kLanes) {
            setup.lanes.push_back({lane, fmt::format("lane{}", static_cast<int>(lane))});
            lanes.push_back(lane);
        }
        rocks = open_rocks_store(options, setup).value();
        worlds.emplace_back(1, lanes);
    }

    // --- Looking ---

    static std::vector<View> look(Store& store) {
        std::vector<View> views;
        for (const auto& state : store.lanes()) {
            views.push_back({state, test::read_all(store, 1, state.lane),
                             test::deferred_of(store, state.lane)});
        }
        return views;
    }
    static bool same(Store& a, Store& b) {
        return look(a) == look(b) && a.stats().dead_letters == b.stats().dead_letters &&
               test::ids_of(a) == test::ids_of(b);
    }
    /// Which of the worlds is this one? In a new process all that matters can be seen, so one is
    /// enough; after a reopen a failed commit may still lie unseen behind the end.
    void recognise(std::size_t enough = kWorldsMax) {
        std::vector<MemStore> left;
        for (auto& world : worlds) {
            if (left.size() < enough && same(*rocks, world)) left.push_back(world);
        }
        if (left.empty()) explain();
        REQUIRE_FALSE(left.empty());
        worlds = std::move(left);
    }
    void explain() {
        const auto tell = [](const char* who, Store& store) {
            std::string text = who;
            for (const auto& view : look(store)) {
                text += fmt::format(" [{} settle={} write={} ahead={} records={} deferred={}]",
                                    static_cast<int>(view.state.lane), view.state.next_settle,
                                    view.state.next_write, view.state.ahead.size(),
                                    view.records.size(), view.deferred.size());
            }
            text += fmt::format(" dead={} ids={}", store.stats().dead_letters,
                                test::ids_of(store).size());
            MESSAGE(text);
        };
        tell("rocks:", *rocks);
        for (auto& world : worlds) tell("world:", world);
    }
    void check_promises() {
        for (const auto& view : look(*rocks)) {
            auto& known = promises[view.state.lane];
            auto seq = view.state.next_settle;
            std::set<Seq> there;
            for (const auto& record : view.records) {
                if (record != "?") {
                    there.insert(seq);
                    const auto promised = known.confirmed.find(seq);
                    if (promised != known.confirmed.end()) CHECK(record == promised->second);
                }
                ++seq;
            }
            CHECK(seq == view.state.next_write);
            for (const auto& confirmed : known.confirmed) {
                const auto number = confirmed.first;
                if (known.settled.contains(number) || known.damaged.contains(number)) continue;
                CHECK_MESSAGE(there.contains(number), "lost: lane "
                                                          << static_cast<int>(view.state.lane)
                                                          << " record " << number);
            }
        }
    }
    void check_read(LaneId lane) {
        const auto from = rng.between(1, outcomes[lane].next + 40);
        const auto batch = rocks->read(lane, from).value();
        for (auto& world : worlds) {
            const auto expected = world.read(lane, from).value();
            CHECK(batch.lost == expected.lost);
            CHECK(batch.first_seq == expected.first_seq);
            const auto got = test::records_of(batch);
            const auto wanted = test::records_of(expected);
            const auto common = std::min(got.size(), wanted.size());  // segments may differ
            CHECK(got.empty() == wanted.empty());
            CHECK(std::equal(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(common),
                             wanted.begin()));
        }
    }

    // --- Acting ---

    std::vector<Segment> make_segments() {
        std::vector<Segment> segments;
        for (const auto lane : kLanes) {
            if (!rng.chance(600)) continue;
            const auto count = static_cast<std::uint32_t>(rng.between(1, 12));
            const auto bytes = rng.chance(100) ? 20'000U : 20U;
            segments.push_back(make_segment(fmt::format("c{}", serial++), count, lane, bytes));
        }
        return segments;
    }
    void promise(const std::vector<Segment>& segments, const std::map<LaneId, Seq>& first) {
        for (const auto& segment : segments) {
            auto seq = first.at(segment.lane);
            for (std::size_t at = 0; at < segment.payload.size(); ++seq) {
                const auto end = segment.payload.find('\n', at);
                auto& known = promises[segment.lane];
                known.confirmed[seq] = segment.payload.substr(at, end - at);
                known.settled.erase(seq);
                at = end + 1;
            }
        }
    }
    std::map<LaneId, Seq> ends() {
        std::map<LaneId, Seq> all;
        for (const auto& lane : rocks->lanes()) all[lane.lane] = lane.next_write;
        return all;
    }
    void commit(const std::vector<Segment>& segments) {
        std::vector<DeadLetter> rejected;
        if (rng.chance(100)) {
            rejected.push_back(make_dead(0, fmt::format("r{}", serial++), DeadKind::admission));
        }
        const auto first = ends();
        rocks->commit(segments, rejected).value();  // throws with the reason
        for (auto& world : worlds) REQUIRE(world.commit(segments, rejected).has_value());
        promise(segments, first);
    }
    /// The sync fails: the bytes are safe or not, and only a reopen helps.
    void failed_commit() {
        const auto segments = make_segments();
        if (segments.empty()) return;
        const bool landed = rng.chance(500);
        disk->fail_next_log_sync(landed);
        const auto failed = rocks->commit(segments, {});
        REQUIRE(failed.has_error());
        CHECK(failed.error().code == Errc::spool_reopen);
        split([&](MemStore& world, Landed either) {
            world.fail_next(StoreCall::commit, Errc::spool_reopen, 1, either);
            CHECK(world.commit(segments, {}).has_error());
        });
        ++met["failed_commit"];
        const auto dice = rng.between(0, 3);
        if (dice == 0) return restart(rng.chance(500), false);
        reopen();
        if (dice == 1) return;  // given up, whatever comes next
        commit(dice == 2 ? segments : make_segments());
    }
    template <typename Act>
    void split(Act act) {
        auto other = worlds;
        for (auto& world : worlds) act(world, Landed::no);
        for (auto& world : other) act(world, Landed::yes);
        worlds.insert(worlds.end(), other.begin(), other.end());
    }
    void full_commit() {
        const auto segments = make_segments();
        if (segments.empty()) return;
        disk->set_full(true);
        CHECK(rocks->commit(segments, {}).error().code == Errc::spool_full);
        disk->set_full(false);
        // What RocksDB could not append may still be in its buffer, and reach the log later.
        split([&](MemStore& world, Landed either) {
            world.fail_next(StoreCall::commit, Errc::spool_full, 1, either);
            CHECK(world.commit(segments, {}).has_error());
        });
        ++met["full_commit"];
        reopen();
        if (rng.chance(700)) commit(segments);
    }
    void ack(LaneId lane) {
        auto& now = outcomes[lane];
        const auto end = ends().at(lane);
        std::vector<DeadLetter> dead;
        std::vector<DeferredRecord> deferred;
        const auto count = rng.between(0, 12);
        for (std::uint64_t i = 0; i < count && now.next < end; ++i) {
            const auto seq = std::min(now.next + rng.between(0, rng.between(0, 30)), end - 1);
            if (!now.ahead.insert(seq).second) continue;
            promises[lane].settled.insert(seq);
            if (rng.chance(100)) {
                deferred.push_back(test::make_deferred(seq, fmt::format("p{}", serial++)));
                now.deferred.insert(seq);
                continue;
            }
            if (!rng.chance(100)) continue;
            dead.push_back(make_dead(seq, fmt::format("d{}", serial++)));
            promises[lane].dead.insert(seq);
        }
        while (!now.ahead.empty() && *now.ahead.begin() == now.next) {
            now.ahead.erase(now.ahead.begin());
            ++now.next;
        }
        std::vector<Seq> ended;
        std::erase_if(now.deferred, [&](Seq seq) {
            const bool ends = rng.chance(200);
            if (ends) ended.push_back(seq);
            return ends;
        });
        const std::vector<Seq> ahead(now.ahead.begin(), now.ahead.end());
        const Ack ack{lane, now.next, dead, ahead, deferred, ended};
        rocks->ack(ack).value();
        for (auto& world : worlds) REQUIRE(world.ack(ack).has_value());
    }
    void replay(LaneId lane) {
        std::vector<Seq> seqs;
        for (const auto seq : promises[lane].dead) {
            if (rng.chance(500)) seqs.push_back(seq);
        }
        auto probe = worlds.front();
        const auto expected = probe.replay(lane, test::revivals(lane, seqs));
        if (!expected) {  // a commit was given up, and nothing has taken its numbers yet
            CHECK(expected.error().code == Errc::spool_busy);
            CHECK(rocks->replay(lane, test::revivals(lane, seqs)).error().code == Errc::spool_busy);
            return;
        }
        if (*expected > 0 && rng.chance(150)) return failed_replay(lane, seqs);
        const auto from = ends().at(lane);
        const auto count = rocks->replay(lane, test::revivals(lane, seqs)).value();
        for (auto& world : worlds)
            CHECK(world.replay(lane, test::revivals(lane, seqs)).value() == count);
        if (count == 0) return;
        auto seq = from;
        for (const auto& record : test::read_all(worlds.front(), from, lane)) {
            promises[lane].confirmed[seq++] = record;
        }
        CHECK(seq == from + count);
        ++met["replay"];
    }
    void failed_replay(LaneId lane, const std::vector<Seq>& seqs) {
        disk->fail_next_log_sync(rng.chance(500));
        CHECK(rocks->replay(lane, test::revivals(lane, seqs)).error().code == Errc::spool_reopen);
        split([&](MemStore& world, Landed either) {
            world.fail_next(StoreCall::replay, Errc::spool_reopen, 1, either);
            CHECK(world.replay(lane, test::revivals(lane, seqs)).has_error());
        });
        ++met["failed_replay"];
        if (rng.chance(500)) return reopen();
        restart(rng.chance(500), false);
    }
    void sync() {
        CHECK(rocks->sync().has_value());
        for (auto& world : worlds) CHECK(world.sync().has_value());
    }
    void reopen() {
        rocks->reopen().value();
        for (auto& world : worlds) REQUIRE(world.reopen().has_value());
        recognise();
    }
    void open_again() {
        rocks = open_rocks_store(options, setup).value();
        recognise(1);
        for (const auto& lane : rocks->lanes()) {
            outcomes[lane.lane] = {lane.next_settle, {lane.ahead.begin(), lane.ahead.end()}, {}};
            for (const auto& entry : lane.deferred) outcomes[lane.lane].deferred.insert(entry.seq);
            // What was settled and forgotten is due again.
            auto& settled = promises[lane.lane].settled;
            std::erase_if(settled, [&](Seq seq) {
                return seq >= lane.next_settle && !outcomes[lane.lane].ahead.contains(seq);
            });
        }
    }
    /// `tears`: of a batch that failed a part may be left then, which no MemStore tells
    /// (fault_sweep_test.cpp does).
    void restart(bool power_loss, bool tears = true) {
        disk->cut();
        rocks.reset();
        disk->restore(power_loss, tears);
        std::vector<MemStore> after;
        for (auto& world : worlds) {
            if (!power_loss) {
                after.push_back(world);
                after.back().restart();
                continue;
            }
            for (std::size_t kept = 0; kept <= world.unsynced(); ++kept) {
                after.push_back(world);
                after.back().crash(kept);
            }
        }
        worlds = std::move(after);
        ++met[power_loss ? "power_loss" : "kill"];
        open_again();
    }
    void restart_cleanly() {
        close();
        open_again();
    }
    void close() {
        rocks->close();
        rocks.reset();
        for (auto& world : worlds) {
            world.close();
            world.restart();
        }
        ++met["clean"];
    }
    /// Damages a large record in a table: its segment, and what shares its block, is lost.
    void damage(LaneId lane) {
        std::optional<std::pair<Seq, std::string>> target;
        for (const auto& [seq, record] : promises[lane].confirmed) {
            if (record.size() > 10'000 && !promises[lane].settled.contains(seq)) {
                target = {seq, record};
            }
        }
        if (!target) return;
        close();
        if (!overwrite(target->second)) return open_again();
        rocks = open_rocks_store(options, setup).value();
        const auto view = look(*rocks)[static_cast<std::size_t>(lane)];
        std::size_t lost = 0;
        for (std::size_t i = 0; i < view.records.size(); ++i) {
            if (view.records[i] != "?") continue;
            const auto seq = view.state.next_settle + i;
            promises[lane].damaged.insert(seq);
            for (auto& world : worlds) world.damage(lane, seq);
            ++lost;
        }
        CHECK(promises[lane].damaged.contains(target->first));
        CHECK(lost <= view.records.size());
        ++met["damage"];
        rocks.reset();
        open_again();
    }
    [[nodiscard]] bool overwrite(const std::string& record) const {
        bool found = false;  // a commit that was tried again may be in two tables
        for (const auto& entry : fs::directory_iterator(options.dir + "/db")) {
            if (entry.path().extension() != ".sst") continue;
            std::ifstream in(entry.path(), std::ios::binary);
            const std::string bytes((std::istreambuf_iterator<char>(in)), {});
            const auto at = bytes.find(record);
            if (at == std::string::npos) continue;
            std::fstream out(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
            out.seekp(static_cast<std::streamoff>(at + record.size() / 2));
            out << "damaged!";
            found = true;
        }
        return found;
    }

    void step() {
        const auto lane = kLanes[rng.between(0, 2)];
        const auto dice = rng.between(0, 99);
        if (dice < 42) return commit(make_segments());
        if (dice < 74) return ack(lane);
        if (dice < 81) return replay(lane);
        if (dice < 84) return sync();
        if (dice < 86) return reopen();
        if (dice < 88) return restart_cleanly();
        if (dice < 90) return restart(false);
        if (dice < 94) return restart(true);
        if (dice < 97) return failed_commit();
        if (dice < 98) return full_commit();
        damage(lane);
    }
};

std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
    const char* text = std::getenv(name);
    return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

TEST_CASE("spool/store: RocksStore, MemStore and their promises agree on any actions and crashes") {
    constexpr int kActions = 150;
    std::map<std::string, int> met;
    const auto first = from_environment("RELAYTEST_MODEL_FIRST", 1);
    const auto seeds = from_environment("RELAYTEST_MODEL_SEEDS", 20);
    for (auto seed = first; seed < first + seeds; ++seed) {
        CAPTURE(seed);
        World world(seed);
        for (int action = 0; action < kActions; ++action) {
            CAPTURE(action);
            world.step();
            for (const auto lane : kLanes) world.check_read(lane);
            if (action % 10 != 9) continue;
            world.check_promises();
        }
        world.restart_cleanly();
        world.check_promises();
        for (const auto& [what, times] : world.met) met[what] += times;
        met["torn_block"] += static_cast<int>(world.disk->torn());
        // Before compactions were stopped, RocksDB took no write any more after such damage.
        // Whether one meets it is a matter of RocksDB's own threads, so it is told and not
        // demanded.
        if (world.logs.count("a table is damaged") > 0) ++met["compaction_met_damage"];
    }
    if (seeds < 20) return;
    MESSAGE("compactions that met damage: " << met["compaction_met_damage"]);
    for (const auto* const what : {"power_loss", "torn_block", "kill", "clean", "failed_commit",
                                   "full_commit", "replay", "failed_replay", "damage"}) {
        CHECK_MESSAGE(met[what] > 0, "never happened: " << what);
    }
}

}  // namespace
}  // namespace opsrelay::spool
