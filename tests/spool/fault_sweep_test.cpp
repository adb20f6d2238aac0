// Every kind of call that fails on every kind of file, at any moment of random work on RocksStore:
// what was said to be durable is there exactly once, what failed is there as a whole or not at all.
// RELAYTEST_SWEEP_SEEDS=N runs N worlds a fault (3), RELAYTEST_SWEEP_FIRST=S begins with number S,
// RELAYTEST_SWEEP_ROW=R runs only the R-th fault.
#include <doctest/doctest.h>
#include <rocksdb/env.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/random.h"
#include "samples.h"
#include "spool/fault_disk.h"
#include "spool/rocks_setup.h"
#include "spool/store_oracle.h"
#include "support/fault_matrix.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::DiskFault;
using test::FaultCall;
using test::FaultMode;
using test::FaultSite;
using test::make_dead;
using test::make_segment;

constexpr LaneId kLanes[] = {kDefaultLane, LaneId{1}, LaneId{2}};
constexpr int kActions = 60;
constexpr int kRefusalsMax = 4;  // then somebody frees space
constexpr int kReopensMax = 8;

/// What a fault may come to; the later the worse.
enum class Came : std::uint8_t { unnoticed, kept, reopened, restarted };
/// The worst that is allowed, in words.
constexpr std::array<EnumName<Came>, 4> kWorsts{{
    {Came::unnoticed, "goes on, nothing to be seen"},
    {Came::kept, "at worst the batch is kept until the disk takes it"},
    {Came::reopened, "at worst opened again in place, the batch retried"},
    {Came::restarted, "at worst exit 6, and the next start has everything"},
}};
static_assert(dense(kWorsts));

/// RocksDB cannot be closed any more without an assertion and stays open to the end of the process
/// (RocksWriter::close), so what it uses does too.
struct LeftOpen {
    std::shared_ptr<test::FaultDisk> disk;
    std::shared_ptr<rocksdb::Env> env;
};
std::vector<LeftOpen>& left_open() {
    static auto* const all = new std::vector<LeftOpen>;  // never destroyed
    return *all;
}

/// The outcomes of a lane as the settler keeps them in memory.
struct Outcomes {
    Seq next = 1;
    std::set<Seq> ahead;
    std::vector<DeadLetter> dead;      // not written
    std::vector<DeadLetter> unsynced;  // written, not synced
};

struct Batch {
    std::vector<Segment> segments;
    std::vector<DeadLetter> rejected;
};

class World {
public:
    explicit World(std::uint64_t seed);
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    /// Works for a while, meets the fault, works on; ends with a new process.
    void run(const DiskFault& fault);
    [[nodiscard]] Came came() const noexcept { return came_; }
    [[nodiscard]] std::uint64_t hits() const noexcept { return hits_; }

private:
    void step();
    void new_batch();
    void commit();
    void ack(LaneId lane);
    void replay(LaneId lane);
    void purge();
    void sync();
    void seal();
    void merge();
    void check_view();
    template <typename T>
    bool settled(const Result<T>& result);
    void note_synced();
    void heal();
    void recover();
    void end_process(bool power_loss);
    void start(bool power_loss);
    void adopt();

    test::LogCapture logs_;
    Xoshiro rng_;
    test::TempDir dir_;
    std::shared_ptr<test::CrashDisk> crash_;
    std::shared_ptr<test::FaultDisk> disk_;
    std::shared_ptr<rocksdb::Env> env_;
    Options options_;
    RocksSetup setup_;
    std::unique_ptr<Store> store_;
    std::optional<test::StoreOracle> oracle_;
    std::map<LaneId, Outcomes> outcomes_;
    std::optional<Batch> held_;  // refused, to be tried again
    std::map<DeadKey, std::string> texts_;
    Came came_ = Came::unnoticed;
    std::uint64_t hits_ = 0;
    int refusals_ = 0;
    int reopens_ = 0;
    int serial_ = 0;
    std::uint32_t runs_ = 0;
};

World::World(std::uint64_t seed)
    : rng_(seed),
      crash_(std::make_shared<test::CrashDisk>(rocksdb::FileSystem::Default(), seed)),
      disk_(std::make_shared<test::FaultDisk>(crash_)),
      env_(rocksdb::NewCompositeEnv(disk_)) {
    options_.dir = dir_ / "spool";
    options_.write_buffers = Bytes{512U << 10U};  // so that tables are written all the time
    setup_.env = env_.get();
    setup_.lanes.clear();
    for (const auto lane : kLanes) {
        setup_.lanes.push_back({lane, fmt::format("lane{}", static_cast<int>(lane))});
    }
    store_ = open_rocks_store(options_, setup_).value();
    oracle_.emplace(test::look(*store_, {}));
}

void World::run(const DiskFault& fault) {
    const auto begin = static_cast<int>(rng_.between(0, kActions / 2));
    for (int action = 0; action < kActions; ++action) {
        CAPTURE(action);
        if (action == begin) {
            disk_->begin(fault);
            if (fault.site == FaultSite::options) {  // which is written at start
                end_process(false);
                start(false);
            }
        }
        step();
        check_view();
        if (action == kActions - 10) heal();
    }
    const bool power_loss = rng_.chance(500);
    end_process(power_loss);
    start(power_loss);
    new_batch();
    commit();
    check_view();
}

void World::step() {
    const auto lane = kLanes[rng_.between(0, 2)];
    const auto dice = rng_.between(0, 99);
    if (dice < 45) {
        if (!held_) new_batch();
        return commit();
    }
    if (dice < 72) return ack(lane);
    if (dice < 78) return replay(lane);
    if (dice < 81) return purge();
    if (dice < 87) return sync();
    if (dice < 93) return seal();
    if (dice < 95) return merge();
    if (dice < 96) {
        store_->close();
        end_process(false);
        return start(false);
    }
    if (dice < 97) {
        const bool power_loss = rng_.chance(500);
        end_process(power_loss);
        return start(power_loss);
    }
    held_.reset();  // given up
}

void World::new_batch() {
    held_.emplace();
    for (const auto lane : kLanes) {
        if (!rng_.chance(600)) continue;
        const bool large = rng_.chance(300);
        const auto count = static_cast<std::uint32_t>(rng_.between(1, large ? 3 : 12));
        const auto tag = fmt::format("c{}", serial_++);
        held_->segments.push_back(make_segment(tag, count, lane, large ? 15'000 : 20));
    }
    if (rng_.chance(200)) {
        held_->rejected.push_back(make_dead(0, fmt::format("r{}", serial_++), DeadKind::admission));
    }
}

void World::commit() {
    const auto batch = *held_;
    const bool nothing = batch.segments.empty() && batch.rejected.empty();
    const auto done = store_->commit(batch.segments, batch.rejected);
    if (!nothing || done.has_error()) {
        oracle_->commit(batch.segments, batch.rejected, done.has_value());
    }
    if (done) held_.reset();
    if (settled(done) && !nothing) note_synced();
}

void World::ack(LaneId id) {
    auto& lane = outcomes_[id];
    const auto end = oracle_->view().lanes.at(id).end;
    for (auto left = rng_.between(0, 12); left > 0 && lane.next < end; --left) {
        const auto seq = std::min(lane.next + rng_.between(0, rng_.between(0, 30)), end - 1);
        if (!lane.ahead.insert(seq).second) continue;
        if (!rng_.chance(200)) continue;
        lane.dead.push_back(make_dead(seq, fmt::format("d{}", serial_++)));
        lane.dead.back().lane = id;
        texts_[key_of(lane.dead.back())] = lane.dead.back().payload;
    }
    while (!lane.ahead.empty() && *lane.ahead.begin() == lane.next) {
        lane.ahead.erase(lane.ahead.begin());
        ++lane.next;
    }
    const std::vector<Seq> ahead(lane.ahead.begin(), lane.ahead.end());
    const auto dead = lane.dead;
    const Ack ack{id, lane.next, dead, ahead};
    const auto done = store_->ack(ack);
    oracle_->ack(ack, done.has_value());
    if (done) {
        lane.unsynced.insert(lane.unsynced.end(), dead.begin(), dead.end());
        lane.dead.clear();
    }
    settled(done);
}

void World::replay(LaneId lane) {
    std::map<DeadKey, std::string> letters;
    std::vector<Revival> revivals;
    for (const auto& [key, hash] : oracle_->view().letters) {
        if (key.kind != DeadKind::upstream || key.lane != lane || rng_.chance(500)) continue;
        letters[key] = texts_.at(key);
        revivals.push_back({.key = key});
    }
    if (letters.empty()) return;
    const auto done = store_->replay(lane, revivals);
    // Refused while a commit waits to be tried again; or it failed.
    oracle_->replay(lane, letters, done.has_value());
    if (done) CHECK(*done == letters.size());
    if (settled(done)) note_synced();
}

void World::purge() {
    std::vector<DeadKey> keys;
    for (const auto& [key, hash] : oracle_->view().letters) {
        if (rng_.chance(200)) keys.push_back(key);
    }
    if (keys.empty()) return;
    const auto done = store_->purge_dead(keys);
    oracle_->purge(keys, done.has_value());
    if (done) CHECK(*done == keys.size());
    if (settled(done)) note_synced();
}

void World::sync() {
    const auto done = store_->sync();
    if (done) oracle_->sync();
    if (settled(done)) note_synced();
}

void World::seal() {
    auto ids = std::make_shared<std::vector<IdHash>>(test::ids_of(*store_));
    if (ids->empty()) return;
    auto job = store_->seal_job({{1, ++runs_}, 100, 200, store_->id_log_end(), 16}, ids);
    const auto made = job();
    if (made) settled(store_->adopt_run(*made));  // else it is tried again some other time
}

void World::merge() {
    std::vector<RunName> names;
    for (const auto& run : store_->id_runs()) names.push_back(run.info.name);
    if (names.size() < 2) return;
    auto job = store_->merge_job({1, ++runs_}, names, 16);
    const auto made = job();
    if (made) settled(store_->adopt_run(*made));
}

void World::check_view() {
    const auto seen = test::look(*store_, oracle_->ids());
    CHECK_MESSAGE(seen == oracle_->view(),
                  test::describe(seen) << "\ninstead of " << test::describe(oracle_->view()));
}

/// Whether it succeeded; what failed is dealt with as the committer does.
template <typename T>
bool World::settled(const Result<T>& result) {
    if (result) {
        reopens_ = refusals_ = 0;
        return true;
    }
    const auto code = result.error().code;
    CAPTURE(result.error().context);
    CHECK((code == Errc::spool_full || code == Errc::spool_busy || code == Errc::spool_io ||
           code == Errc::spool_reopen));
    if (code == Errc::spool_full || code == Errc::spool_busy) {
        if (disk_->hits() > 0) came_ = std::max(came_, Came::kept);
        if (++refusals_ > kRefusalsMax) heal();
    } else {
        recover();
    }
    return false;
}

void World::note_synced() {
    for (auto& [id, lane] : outcomes_) lane.unsynced.clear();
}

void World::heal() {
    hits_ = std::max(hits_, disk_->hits());
    disk_->end();
}

void World::recover() {
    for (int tries = 0; tries < 3 && ++reopens_ < kReopensMax; ++tries) {
        const auto opened = store_->reopen();
        if (opened) {
            came_ = std::max(came_, Came::reopened);
            const auto seen = test::look(*store_, oracle_->ids());
            const bool explained = oracle_->explains_reopened(seen);
            REQUIRE_MESSAGE(explained, test::describe(seen) << oracle_->explain(seen));
            for (auto& [id, lane] : outcomes_) {  // as Settler::adopt()
                lane.dead.insert(lane.dead.end(), lane.unsynced.begin(), lane.unsynced.end());
                lane.unsynced.clear();
            }
            return;
        }
        oracle_->reopen_failed();
        if (opened.error().code != Errc::spool_full) break;
        heal();
    }
    came_ = Came::restarted;
    const bool power_loss = rng_.chance(400);
    end_process(power_loss);
    start(power_loss);
}

void World::end_process(bool power_loss) {
    crash_->cut();
    store_.reset();
    crash_->restore(power_loss);
    held_.reset();
    reopens_ = refusals_ = 0;
}

void World::start(bool power_loss) {
    auto opened = open_rocks_store(options_, setup_);
    if (opened.has_error() && opened.error().code == Errc::spool_locked) {
        // By what was left open in this process. A new process finds the same under its name.
        heal();
        left_open().push_back({disk_, env_});
        const auto moved = options_.dir + "'";
        fs::rename(options_.dir, moved);
        options_.dir = moved;
        crash_ = std::make_shared<test::CrashDisk>(rocksdb::FileSystem::Default(), rng_.next());
        disk_ = std::make_shared<test::FaultDisk>(crash_);
        env_ = rocksdb::NewCompositeEnv(disk_);
        setup_.env = env_.get();
        opened = open_rocks_store(options_, setup_);
    }
    if (opened.has_error()) {
        CAPTURE(opened.error().context);
        CHECK(opened.error().code == Errc::spool_unusable);
        CHECK(disk_->hits() > 0);
        came_ = Came::restarted;
        heal();
        if (rng_.chance(300)) {
            crash_->cut();
            crash_->restore(true);
            power_loss = true;
        }
        opened = open_rocks_store(options_, setup_);
    }
    if (opened.has_error()) FAIL(opened.error().context);
    store_ = std::move(*opened);
    const auto seen = test::look(*store_, oracle_->ids());
    const bool explained = oracle_->explains_new(seen, power_loss);
    REQUIRE_MESSAGE(explained, test::describe(seen) << oracle_->explain(seen));
    CHECK(store_->stats().dead_letters == seen.letters.size());
    CHECK(store_->stats().damaged.empty());
    adopt();
}

void World::adopt() {
    outcomes_.clear();
    for (const auto& lane : store_->lanes()) {
        outcomes_[lane.lane] = {lane.next_settle, {lane.ahead.begin(), lane.ahead.end()}, {}, {}};
    }
}

struct Row {
    const char* fault;
    DiskFault disk;
    Came worst;
};

/// How often, and with what error.
std::vector<Row> rows() {
    constexpr auto forever = std::uint64_t{0};
    std::vector<Row> all;
    const auto add = [&all](const char* text, FaultSite site, FaultCall call, Came worst,
                            bool no_space, FaultMode mode, std::uint64_t times) {
        all.push_back({text, {site, call, no_space, mode, 0, times}, worst});
    };
    for (const auto& site : test::kFaultSites) {
        const auto worst = site.value == FaultSite::options ? Came::unnoticed : Came::restarted;
        if (site.value == FaultSite::directory) continue;
        add("write EIO once", site.value, FaultCall::append, worst, false, FaultMode::fail, 1);
        add("write EIO for ever", site.value, FaultCall::append, worst, false, FaultMode::fail,
            forever);
        add("write half, then EIO", site.value, FaultCall::append, worst, false, FaultMode::half,
            1);
        add("write ENOSPC for a while", site.value, FaultCall::append, worst, true, FaultMode::fail,
            forever);
        add("write half, then ENOSPC", site.value, FaultCall::append, worst, true, FaultMode::half,
            2);
        add("sync EIO once", site.value, FaultCall::sync, worst, false, FaultMode::fail, 1);
        add("sync EIO once, later ones lie", site.value, FaultCall::sync, worst, false,
            FaultMode::silent, 1);
        add("sync EIO once, though it worked", site.value, FaultCall::sync, worst, false,
            FaultMode::half, 1);
        add("sync EIO for ever", site.value, FaultCall::sync, worst, false, FaultMode::silent,
            forever);
        add("open EIO once", site.value, FaultCall::make, worst, false, FaultMode::fail, 1);
        add("open EIO for ever", site.value, FaultCall::make, worst, false, FaultMode::fail,
            forever);
        add("open ENOSPC for a while", site.value, FaultCall::make, worst, true, FaultMode::fail,
            forever);
    }
    add("rename EIO once", FaultSite::manifest, FaultCall::rename, Came::restarted, false,
        FaultMode::fail, 1);
    add("sync EIO once", FaultSite::directory, FaultCall::sync, Came::restarted, false,
        FaultMode::fail, 1);
    add("sync EIO for ever", FaultSite::directory, FaultCall::sync, Came::restarted, false,
        FaultMode::fail, forever);
    return all;
}

std::uint64_t from_environment(const char* name, std::uint64_t fallback) {
    const char* text = std::getenv(name);
    return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

/// The worlds of a row.
struct Worlds {
    std::uint64_t first = 1;
    std::uint64_t count = 3;
    std::uint64_t count_max = 40;  // until one has met the fault
};

/// The worst that came of it.
Came run_row(const Row& row, std::size_t number, const Worlds& worlds) {
    std::optional<Came> worst;
    for (auto seed = worlds.first; seed < worlds.first + worlds.count_max; ++seed) {
        if (seed >= worlds.first + worlds.count && worst) break;
        CAPTURE(seed);
        Xoshiro rng(seed * 1000 + number);
        auto fault = row.disk;
        if (fault.site != FaultSite::options) fault.skip = rng.between(0, rng.between(0, 8));
        World world(rng.next());
        world.run(fault);
        if (world.hits() > 0) worst = std::max(worst.value_or(Came::unnoticed), world.came());
    }
    CHECK_MESSAGE(worst, "no world met the fault");
    return worst.value_or(Came::unnoticed);
}

/// Faults of a site that come to the same share a row.
void add_row(std::vector<test::FaultRow>& matrix, const test::FaultRow& row) {
    const auto found = std::find_if(matrix.begin(), matrix.end(), [&row](const auto& other) {
        return other.site == row.site && other.outcome == row.outcome;
    });
    if (found == matrix.end()) return matrix.push_back(row);
    found->fault += "; " + row.fault;
}

TEST_CASE("spool/fault_sweep: whatever fails whenever, what was durable is there exactly once") {
    Worlds worlds;
    worlds.first = from_environment("RELAYTEST_SWEEP_FIRST", worlds.first);
    worlds.count = from_environment("RELAYTEST_SWEEP_SEEDS", worlds.count);
    const auto all = rows();
    const auto only = from_environment("RELAYTEST_SWEEP_ROW", all.size());
    std::vector<test::FaultRow> matrix;
    for (std::size_t number = 0; number < all.size(); ++number) {
        const auto& row = all[number];
        const std::string site(test::kFaultSites[index_of(row.disk.site)].name);
        const std::string fault = row.fault;
        add_row(matrix, {site, fault, std::string(kWorsts[index_of(row.worst)].name)});
        if (only < all.size() && number != only) continue;
        CAPTURE(number);
        CAPTURE(site);
        CAPTURE(fault);
        CHECK(run_row(row, number, worlds) <= row.worst);
    }
    const auto complaint = test::check_matrix("spool/fault_sweep", matrix);
    CHECK_MESSAGE(complaint.empty(), complaint);
}

}  // namespace
}  // namespace opsrelay::spool
