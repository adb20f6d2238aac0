#include "spool/fault_world.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "samples.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::DiskFault;
using test::FaultSite;
using test::make_dead;
using test::make_deferred;
using test::make_segment;

constexpr LaneId kLanes[] = {kDefaultLane, LaneId{1}, LaneId{2}};
constexpr int kActions = 60;
constexpr int kRefusalsMax = 4;  // then somebody frees space
constexpr int kReopensMax = 8;

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

}  // namespace

FaultWorld::FaultWorld(std::uint64_t seed)
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

void FaultWorld::run(const DiskFault& fault) {
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

void FaultWorld::step() {
    const auto lane = kLanes[rng_.between(0, 2)];
    const auto dice = rng_.between(0, 99);
    if (dice < 45) {
        if (!held_) new_batch();
        return commit();
    }
    if (dice < 66) return ack(lane);
    if (dice < 72) return read(lane);
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

void FaultWorld::new_batch() {
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

void FaultWorld::commit() {
    const auto batch = *held_;
    const bool nothing = batch.segments.empty() && batch.rejected.empty();
    const auto done = store_->commit(batch.segments, batch.rejected);
    if (!nothing || done.has_error()) {
        oracle_->commit(batch.segments, batch.rejected, done.has_value());
    }
    if (done) held_.reset();
    if (settled(done) && !nothing) note_synced();
}

void FaultWorld::ack(LaneId id) {
    auto& lane = outcomes_[id];
    const auto end = oracle_->view().lanes.at(id).end;
    for (auto left = rng_.between(0, 12); left > 0 && lane.next < end; --left) {
        const auto seq = std::min(lane.next + rng_.between(0, rng_.between(0, 30)), end - 1);
        if (!lane.ahead.insert(seq).second) continue;
        if (rng_.chance(200)) {
            lane.deferred[seq] = make_deferred(seq, fmt::format("p{}", serial_++));
            continue;
        }
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
    std::vector<DeferredRecord> deferred;
    for (const auto& [seq, record] : lane.deferred) deferred.push_back(record);
    std::vector<Seq> ended;
    for (const auto& [seq, hash] : oracle_->view().lanes.at(id).deferred) {
        if (rng_.chance(200) && !lane.deferred.contains(seq)) ended.push_back(seq);
    }
    const Ack ack{id, lane.next, dead, ahead, deferred, ended};
    const auto done = store_->ack(ack);
    oracle_->ack(ack, done.has_value());
    if (done) {
        lane.unsynced.insert(lane.unsynced.end(), dead.begin(), dead.end());
        lane.dead.clear();
        lane.deferred_unsynced.merge(lane.deferred);
        lane.deferred.clear();
    }
    settled(done);
}

void FaultWorld::replay(LaneId lane) {
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

void FaultWorld::purge() {
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

void FaultWorld::sync() {
    const auto done = store_->sync();
    if (done) oracle_->sync();
    if (settled(done)) note_synced();
}

// A disk that cannot be read is no reason to give records up.
void FaultWorld::read(LaneId lane) {
    const auto end = oracle_->view().lanes.at(lane).end;
    const auto from = rng_.between(outcomes_[lane].next, end);
    const auto batch = store_->read(lane, from);
    if (batch) CHECK(batch->lost == 0);
    if (!settled(batch)) return;
    const auto letters = store_->read_dead({});
    if (letters) CHECK(letters->damaged == 0);
    settled(letters);
}

void FaultWorld::seal() {
    auto ids = std::make_shared<std::vector<IdHash>>();
    const auto read =
        store_->replay_ids([&ids](const IdHash& id, std::int64_t) { ids->push_back(id); });
    if (read.has_error()) {
        settled(read);
        return;
    }
    if (ids->empty()) return;
    auto job = store_->seal_job({{1, ++runs_}, 100, 200, store_->id_log_end(), 16}, ids);
    const auto made = job();
    if (made) settled(store_->adopt_run(*made));  // else it is tried again some other time
}

void FaultWorld::merge() {
    std::vector<RunName> names;
    for (const auto& run : store_->id_runs()) names.push_back(run.info.name);
    if (names.size() < 2) return;
    auto job = store_->merge_job({1, ++runs_}, names, 16);
    const auto made = job();
    if (made) settled(store_->adopt_run(*made));
}

// What is there, whatever fails.
test::StoreImage FaultWorld::look() {
    disk_->hold(true);
    auto seen = test::look(*store_, oracle_->ids());
    disk_->hold(false);
    return seen;
}

void FaultWorld::check_view() {
    const auto seen = look();
    CHECK_MESSAGE(seen == oracle_->view(),
                  test::describe(seen) << "\ninstead of " << test::describe(oracle_->view()));
}

/// Whether it succeeded; what failed is dealt with as the committer does.
template <typename T>
bool FaultWorld::settled(const Result<T>& result) {
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

void FaultWorld::note_synced() {
    for (auto& [id, lane] : outcomes_) {
        lane.unsynced.clear();
        lane.deferred_unsynced.clear();
    }
}

void FaultWorld::heal() {
    hits_ = std::max(hits_, disk_->hits());
    disk_->end();
}

void FaultWorld::recover() {
    for (int tries = 0; tries < 3 && ++reopens_ < kReopensMax; ++tries) {
        const auto opened = store_->reopen();
        if (opened) {
            came_ = std::max(came_, Came::reopened);
            const auto seen = look();
            const bool explained = oracle_->explains_reopened(seen);
            REQUIRE_MESSAGE(explained, test::describe(seen) << oracle_->explain(seen));
            for (auto& [id, lane] : outcomes_) {  // as Settler::adopt()
                lane.dead.insert(lane.dead.end(), lane.unsynced.begin(), lane.unsynced.end());
                lane.unsynced.clear();
                lane.deferred.merge(lane.deferred_unsynced);
                lane.deferred_unsynced.clear();
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

void FaultWorld::end_process(bool power_loss) {
    crash_->cut();
    store_.reset();
    crash_->restore(power_loss);
    held_.reset();
    reopens_ = refusals_ = 0;
}

void FaultWorld::start(bool power_loss) {
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
    const auto seen = look();
    const bool explained = oracle_->explains_new(seen, power_loss);
    REQUIRE_MESSAGE(explained, test::describe(seen) << oracle_->explain(seen));
    CHECK(store_->stats().dead_letters == seen.letters.size());
    CHECK(store_->stats().damaged.empty());
    adopt();
}

void FaultWorld::adopt() {
    outcomes_.clear();
    for (const auto& lane : store_->lanes()) {
        outcomes_[lane.lane] = {
            lane.next_settle, {lane.ahead.begin(), lane.ahead.end()}, {}, {}, {}, {}};
    }
}

}  // namespace opsrelay::spool
