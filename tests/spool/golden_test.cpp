// Spools as every released format lies on disk. golden/format-<n>.tgz is never made again: this
// program and all later ones read it. README.md ("Changing the format") says when a new one comes.
#include <doctest/doctest.h>
#include <rocksdb/db.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "samples.h"
#include "spool/keys.h"
#include "spool/rocks_open.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;
using test::names;
using test::read_all;

constexpr LaneId kEurope{1};
constexpr LaneId kIdle{2};
constexpr std::int64_t kMadeAt = 1'700'000'000'000;  // of the id clock, too

RocksSetup three_lanes() {
    RocksSetup setup;
    setup.lanes = {{kDefaultLane, "default"}, {kEurope, "europe"}, {kIdle, "idle"}};
    return setup;
}

IdHash golden_id(std::uint64_t number) {
    return {number * 0x9E37'79B9'7F4A'7C15U, number};  // spread over the pages of a run
}

/// Three records "`tag`.0" to "`tag`.2" with the ids `first_id` and following.
Segment golden_segment(std::string_view tag, LaneId lane, std::uint64_t first_id) {
    auto segment = test::make_segment(tag, 3, lane);
    for (std::uint64_t i = 0; i < 3; ++i) segment.ids[i] = golden_id(first_id + i);
    segment.id_clock_ms = kMadeAt + static_cast<std::int64_t>(first_id);
    return segment;
}

std::vector<IdHash> golden_ids(std::uint64_t begin, std::uint64_t end) {
    std::vector<IdHash> ids;
    for (auto i = begin; i < end; ++i) ids.push_back(golden_id(i));
    return ids;
}

void seal(Store& store, RunName name, std::uint64_t begin, std::uint64_t end) {
    auto job = store.seal_job(
        {name, kMadeAt, kMadeAt + static_cast<std::int64_t>(end), store.id_log_end(), 16},
        std::make_shared<std::vector<IdHash>>(golden_ids(begin, end)));
    REQUIRE(store.adopt_run(job().value()).has_value());
}

void commit(Store& store, const std::vector<Segment>& segments,
            const std::vector<DeadLetter>& rejected = {}) {
    REQUIRE(store.commit(segments, rejected).has_value());
}

// What format 1 was written from. Ids 100 to 129 are in runs, 130 to 138 in the log.
void fill(Store& store) {
    commit(store, {golden_segment("a0", kDefaultLane, 100), golden_segment("e0", kEurope, 103),
                   golden_segment("i0", kIdle, 106)});
    commit(store, {golden_segment("a1", kDefaultLane, 109)},
           {test::make_dead(0, R"({"bad":1})", DeadKind::admission)});
    seal(store, {1, 1}, 100, 112);
    commit(store, {golden_segment("a2", kDefaultLane, 112), golden_segment("e1", kEurope, 115)});
    seal(store, {1, 2}, 112, 118);
    const std::vector<RunName> both{{1, 1}, {1, 2}};
    auto merge = store.merge_job({1, 3}, both, 16);
    REQUIRE(store.adopt_run(merge().value()).has_value());
    commit(store, {golden_segment("a3", kDefaultLane, 118)},
           {test::make_dead(0, "", DeadKind::admission)});
    commit(store, {golden_segment("a4", kDefaultLane, 121), golden_segment("i1", kIdle, 124)});
    commit(store, {golden_segment("e2", kEurope, 127)});
    seal(store, {2, 4}, 118, 130);
    // Records 1 to 4 have their outcome, 6 and 9 too; 2 and 6 are dead letters.
    const std::vector<DeadLetter> refused{test::make_dead(2, "a0.1"), test::make_dead(6, "a1.2")};
    const std::vector<Seq> ahead{6, 9};
    REQUIRE(store.ack({kDefaultLane, 5, refused, ahead}).has_value());
    REQUIRE(store.ack({kIdle, 7, {}}).has_value());
}

// What format 2 has besides: a deferred record that has been tried again, and one that has ended.
void defer(Store& store) {
    const std::vector<DeferredRecord> later{
        test::make_deferred(1, "e0.0", 1'700'000'060'000),
        test::make_deferred(2, "e0.1", 1'700'000'060'000),
    };
    const std::vector<DeferredRecord> again{test::make_deferred(2, "e0.1", 1'700'000'180'000)};
    const std::vector<Seq> ended{1};
    REQUIRE(store.ack({kEurope, 3, {}, {}, later, {}, "first"}).has_value());
    REQUIRE(store.ack({kEurope, 3, {}, {}, again, ended, "second"}).has_value());
}

/// golden/format-<n>.tgz, unpacked.
struct Golden {
    test::TempDir dir;
    Options options;
    test::LogCapture logs;

    explicit Golden(std::uint32_t format = 1) {
        options.dir = dir / "spool";
        fs::create_directory(options.dir);
        const auto command = fmt::format("tar -xzf '{}/tests/spool/golden/format-{}.tgz' -C '{}'",
                                         OPSRELAY_SOURCE_DIR, format, options.dir);
        REQUIRE(std::system(command.c_str()) == 0);
    }
    [[nodiscard]] std::unique_ptr<Store> open() const {
        return open_rocks_store(options, three_lanes()).value();
    }
    [[nodiscard]] std::uint32_t format() const {
        const auto handle = open_rocks(options, three_lanes(), nullptr).value();
        std::string value;
        REQUIRE(handle->db().Get({}, rocksdb::Slice(kFormatKey), &value).ok());
        return decode_u32(value).value();
    }
};

void check_lanes(Store& store) {
    auto expected = names("a1", 1, 3);
    for (const auto* const tag : {"a2", "a3", "a4", "l0", "l1"}) {
        const auto more = names(tag, 0, 3);
        expected.insert(expected.end(), more.begin(), more.end());
    }
    CHECK(read_all(store) == expected);
    expected.clear();
    for (const auto* const tag : {"e0", "e1", "e2", "l2"}) {
        const auto more = names(tag, 0, 3);
        expected.insert(expected.end(), more.begin(), more.end());
    }
    CHECK(read_all(store, 1, kEurope) == expected);
    CHECK(read_all(store, 1, kIdle).empty());
    const auto lanes = store.lanes();
    REQUIRE(lanes.size() == 3);
    CHECK(lanes[0].next_settle == 5);
    CHECK(lanes[0].next_write == 22);
    CHECK(lanes[0].ahead == std::vector<Seq>{6, 9});
    CHECK(lanes[1].next_settle == 1);
    CHECK(lanes[1].next_write == 13);
    CHECK(lanes[2].next_settle == 7);
    CHECK(lanes[2].next_write == 7);
}

TEST_CASE("spool/golden: format 1 opens, everything in it is found") {
    const Golden golden;
    for (int start = 1; start <= 2; ++start) {  // the second one reads what the first left
        CAPTURE(start);
        const auto store = golden.open();
        CHECK(store->salt() == 0x5EED'0F'A'6000'D1E5U);
        check_lanes(*store);
        CHECK(test::ids_of(*store) == golden_ids(130, 139));
        std::vector<RunName> runs;
        for (const auto& run : store->id_runs()) runs.push_back(run.info.name);
        CHECK(runs == std::vector<RunName>{{1, 3}, {2, 4}});
        CHECK(store->find_ids(golden_ids(100, 130)) == std::vector<bool>(30, true));
        CHECK(store->find_ids(golden_ids(139, 300)) == std::vector<bool>(161, false));
        CHECK(store->stats().dead_letters == 4);
        CHECK(store->dead_usage().letters == 2);  // their bytes were not counted yet
        CHECK(store->dead_usage().bytes > Bytes{100});
        CHECK(store->damaged_id_pages() == 0);
        store->close();
    }
    CHECK(golden.logs.count(log::Level::warn) == 0);
}

TEST_CASE("spool/golden: format 2 opens, what it has besides is found") {
    const Golden golden(2);
    for (int start = 1; start <= 2; ++start) {
        CAPTURE(start);
        const auto store = golden.open();
        CHECK(store->salt() == 0x5EED'0F'A'6000'D1E5U);
        auto expected = names("e0", 2, 3);
        for (const auto* const tag : {"e1", "e2", "l2"}) {
            const auto more = names(tag, 0, 3);
            expected.insert(expected.end(), more.begin(), more.end());
        }
        CHECK(read_all(*store, 1, kEurope) == expected);
        CHECK(test::deferred_of(*store, kEurope) ==
              std::vector<std::string>{"2:e0.1:1700000180000"});
        const auto lanes = store->lanes();
        REQUIRE(lanes.size() == 3);
        CHECK(lanes[1].spooled() == 11);
        CHECK(lanes[1].memo == "second");
        CHECK(lanes[0].memo.empty());
        CHECK(test::ids_of(*store) == golden_ids(130, 139));
        CHECK(store->stats().dead_letters == 4);
        store->close();
    }
    CHECK(golden.format() == 2);
    CHECK(golden.logs.count(log::Level::warn) == 0);
}

TEST_CASE("spool/golden: a spool of format 1 becomes one of this format when it is opened") {
    const Golden golden;
    CHECK(golden.format() == 1);  // making a family is not what raises it
    {
        const auto store = golden.open();
        defer(*store);
        REQUIRE(store->sync().has_value());
    }
    CHECK(golden.format() == kFormatVersion);
    const auto store = golden.open();
    CHECK(test::deferred_of(*store, kEurope) == std::vector<std::string>{"2:e0.1:1700000180000"});
    CHECK(store->lanes()[1].spooled() == 11);
}

TEST_CASE("spool/golden: a spool of format 1 goes on: it takes records, outcomes and replays") {
    const Golden golden;
    {
        const auto store = golden.open();
        commit(*store, {golden_segment("n0", kDefaultLane, 139), golden_segment("n1", kIdle, 142)});
        const std::vector<Seq> dead{2, 6};
        CHECK(store->replay(kDefaultLane, test::revivals(kDefaultLane, dead)).value() == 2);
        REQUIRE(store->ack({kEurope, 13, {}}).has_value());
    }
    const auto store = golden.open();
    const auto all = read_all(*store);
    const std::vector<std::string> last(all.end() - 5, all.end());
    CHECK(last == std::vector<std::string>{"n0.0", "n0.1", "n0.2", "a0.1", "a1.2"});
    CHECK(read_all(*store, 1, kIdle) == names("n1", 0, 3));
    CHECK(read_all(*store, 1, kEurope).empty());
    CHECK(store->stats().dead_letters == 2);
    CHECK(test::ids_of(*store).size() == 15);
}

TEST_CASE("spool/golden: a newer format is refused and nothing is changed; an older one is not") {
    const Golden golden;
    const auto set_format = [&golden](std::string value) {
        const auto handle = open_rocks(golden.options, three_lanes(), nullptr).value();
        REQUIRE(handle->db().Put({}, rocksdb::Slice(kFormatKey), value).ok());
    };
    set_format(encode_u32(kFormatVersion + 1));
    const auto refused = open_rocks_store(golden.options, three_lanes());
    REQUIRE(refused.has_error());
    CHECK(refused.error().code == Errc::spool_unusable);
    CHECK(refused.error().context.find("has format 3, this program reads") != std::string::npos);
    set_format(encode_u32(kFormatVersion));
    check_lanes(*golden.open());
}

// Writes golden/format-<n>.tgz into the directory it is started in:
//   spool_test --no-skip --test-case='spool/golden: write*'
TEST_CASE("spool/golden: write the golden spool of this format" * doctest::skip()) {
    const test::TempDir dir;
    Options options;
    options.dir = dir / "running";
    {
        const auto handle = open_rocks(options, three_lanes(), nullptr).value();
        rocksdb::WriteBatch batch;
        REQUIRE(batch.Put(rocksdb::Slice(kFormatKey), encode_u32(kFormatVersion)).ok());
        REQUIRE(batch.Put(rocksdb::Slice(kSaltKey), encode_u64(0x5EED'0F'A'6000'D1E5U)).ok());
        REQUIRE(handle->db().Write({}, &batch).ok());
    }
    {
        const auto store = open_rocks_store(options, three_lanes()).value();
        fill(*store);
        defer(*store);
        store->close();
    }
    const auto store = open_rocks_store(options, three_lanes()).value();
    commit(*store, {golden_segment("l0", kDefaultLane, 130), golden_segment("l2", kEurope, 133)});
    commit(*store, {golden_segment("l1", kDefaultLane, 136)});
    REQUIRE(store->sync().has_value());
    test::copy_as_killed(options.dir, dir / "copy");  // as kill -9 leaves it
    const auto command = fmt::format(
        "tar --sort=name --owner=0 --group=0 --numeric-owner -czf "
        "'format-{}.tgz' -C '{}' db runs",
        kFormatVersion, dir / "copy");
    REQUIRE(std::system(command.c_str()) == 0);
}

}  // namespace
}  // namespace opsrelay::spool
