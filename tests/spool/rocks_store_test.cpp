#include "spool/rocks_store.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <thread>

#include "samples.h"
#include "spool/disk_usage.h"
#include "spool/rocks_setup.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

using test::ids_of;
using test::make_dead;
using test::make_segment;
using test::names;
using test::read_all;
using test::records_of;
using test::TempDir;

constexpr LaneId kOther{3};

Options options_in(const TempDir& dir) {
    Options options;
    options.dir = dir / "spool";
    return options;
}

RocksSetup two_lanes() {
    RocksSetup setup;
    setup.lanes = {{kDefaultLane, "default"}, {kOther, "other"}};
    return setup;
}

void commit(Store& store, std::vector<Segment> segments) {
    REQUIRE(store.commit(segments, {}).has_value());
}

void ack(Store& store, Seq next, std::vector<DeadLetter> dead = {}) {
    REQUIRE(store.ack({kDefaultLane, next, dead}).has_value());
}

LaneState state_of(Store& store, LaneId lane = kDefaultLane) {
    for (const auto& state : store.lanes()) {
        if (state.lane == lane) return state;
    }
    FAIL("no such lane");
    return {};
}

TEST_CASE("spool/rocks_store: a new spool is empty and has a salt that stays") {
    const TempDir dir;
    std::uint64_t salt = 0;
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        salt = store->salt();
        CHECK(salt != 0);
        REQUIRE(store->lanes().size() == 1);
        CHECK(state_of(*store).next_settle == 1);
        CHECK(state_of(*store).next_write == 1);
        CHECK(read_all(*store).empty());
        CHECK(ids_of(*store).empty());
    }
    CHECK(open_rocks_store(options_in(dir)).value()->salt() == salt);
}

TEST_CASE("spool/rocks_store: what was committed is read back, also after a reopen") {
    for (const bool clean : {true, false}) {
        CAPTURE(clean);
        const TempDir dir;
        auto expected = names("a", 0, 3);
        {
            const auto store = open_rocks_store(options_in(dir)).value();
            commit(*store, {make_segment("a", 3)});
            commit(*store, {make_segment("b", 2)});
            expected.insert(expected.end(), {"b.0", "b.1"});
            CHECK(read_all(*store) == expected);
            if (clean) store->close();
        }
        const auto store = open_rocks_store(options_in(dir)).value();
        CHECK(read_all(*store) == expected);
        CHECK(state_of(*store).next_write == 6);
        CHECK(ids_of(*store).size() == 5);
        CHECK(records_of(store->read(kDefaultLane, 2).value()) == names("a", 1, 3));
        CHECK(records_of(store->read(kDefaultLane, 5).value()) == names("b", 1, 2));
        CHECK(store->read(kDefaultLane, 6).value().size() == 0);
    }
}

TEST_CASE("spool/rocks_store: the cursor may stand inside a segment, and survives") {
    const TempDir dir;
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        commit(*store, {make_segment("a", 4)});
        ack(*store, 3);
        CHECK(read_all(*store) == names("a", 2, 4));
    }
    const auto store = open_rocks_store(options_in(dir)).value();
    CHECK(state_of(*store).next_settle == 3);
    CHECK(read_all(*store) == names("a", 2, 4));
    ack(*store, 5);
    CHECK(read_all(*store).empty());
    commit(*store, {make_segment("b", 1)});
    CHECK(state_of(*store).next_write == 6);  // numbers are not used again
}

TEST_CASE("spool/rocks_store: numbers go on after everything was settled and the spool reopened") {
    const TempDir dir;
    for (std::uint32_t round = 0; round < 4; ++round) {
        const auto store = open_rocks_store(options_in(dir)).value();
        CHECK(state_of(*store).next_write == 1 + round * 2);
        commit(*store, {make_segment("a", 2)});
        ack(*store, state_of(*store).next_write);
        if (round % 2 == 0) store->close();
    }
}

TEST_CASE(
    "spool/rocks_store: what is settled ahead of the cursor survives, and the cursor passes it") {
    const TempDir dir;
    const std::vector<Seq> ahead{3, 5};
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        commit(*store, {make_segment("a", 6)});
        REQUIRE(store->ack({.lane = kDefaultLane, .next = 2, .ahead = ahead}).has_value());
        CHECK(state_of(*store).ahead == ahead);
        REQUIRE(store->sync().has_value());
    }
    const auto store = open_rocks_store(options_in(dir)).value();
    CHECK(state_of(*store).next_settle == 2);
    CHECK(state_of(*store).ahead == ahead);
    const std::vector<Seq> stale{2, 3, 5};
    REQUIRE(store->ack({.lane = kDefaultLane, .next = 4, .ahead = stale}).has_value());
    CHECK(state_of(*store).next_settle == 4);
    CHECK(state_of(*store).ahead == std::vector<Seq>{5});
}

TEST_CASE("spool/rocks_store: an ack never goes back, and one without news is nothing") {
    const TempDir dir;
    const auto store = open_rocks_store(options_in(dir)).value();
    commit(*store, {make_segment("a", 4)});
    ack(*store, 3);
    ack(*store, 2);
    ack(*store, 3);
    CHECK(state_of(*store).next_settle == 3);
}

TEST_CASE("spool/rocks_store: lanes have their own numbers and cursors") {
    const TempDir dir;
    {
        const auto store = open_rocks_store(options_in(dir), two_lanes()).value();
        commit(*store, {make_segment("a", 2), make_segment("x", 3, kOther)});
        commit(*store, {make_segment("y", 1, kOther)});
        ack(*store, 3);
    }
    const auto store = open_rocks_store(options_in(dir), two_lanes()).value();
    CHECK(read_all(*store).empty());
    auto expected = names("x", 0, 3);
    expected.emplace_back("y.0");
    CHECK(read_all(*store, 1, kOther) == expected);
    CHECK(ids_of(*store).size() == 6);
}

TEST_CASE("spool/rocks_store: a lane that is not configured any more keeps its records") {
    const TempDir dir;
    commit(*open_rocks_store(options_in(dir), two_lanes()).value(), {make_segment("x", 3, kOther)});
    const auto store = open_rocks_store(options_in(dir)).value();
    CHECK(read_all(*store, 1, kOther) == names("x", 0, 3));
}

TEST_CASE("spool/rocks_store: a lane's number keeps its name") {
    const TempDir dir;
    CHECK(open_rocks_store(options_in(dir)).has_value());
    RocksSetup setup;
    setup.lanes = {{kDefaultLane, "renamed"}};
    const auto store = open_rocks_store(options_in(dir), setup);
    REQUIRE(store.has_error());
    CHECK(store.error().code == Errc::spool_unusable);
}

TEST_CASE("spool/rocks_store: settled segments disappear from disk") {
    const TempDir dir;
    auto options = options_in(dir);
    const auto store = open_rocks_store(options).value();
    Seq next = 1;
    for (int i = 0; i < 160; ++i) {
        commit(*store, {make_segment(fmt::format("s{}", i), 4, kDefaultLane, 60'000)});
        next += 4;
    }
    const auto full = directory_bytes(options.dir);
    CHECK(full > 36_MiB);
    ack(*store, next);
    // A table that is still being written then goes with a later sync.
    for (int i = 0; i < 600 && directory_bytes(options.dir) >= 24_MiB; ++i) {
        REQUIRE(store->sync().has_value());
        std::this_thread::sleep_for(milliseconds{50});
    }
    CHECK(directory_bytes(options.dir) < 24_MiB);
    CHECK(read_all(*store).empty());
    CHECK(state_of(*store).next_write == next);
}

TEST_CASE("spool/rocks_store: near the limit, settled records give back logs and tables too") {
    const TempDir dir;
    auto options = options_in(dir);
    options.bytes_max = 16_MiB;
    const auto store = open_rocks_store(options).value();
    Seq next = 1;
    for (int i = 0; i < 80; ++i) {
        commit(*store, {make_segment(fmt::format("s{}", i), 4, kDefaultLane, 60'000)});
        next += 4;
    }
    ack(*store, next);
    REQUIRE(store->sync().has_value());
    CHECK(store->stats().disk < 8_MiB);
    commit(*store, {make_segment("b", 1)});
    CHECK(read_all(*store) == names("b", 0, 1));
}

TEST_CASE("spool/rocks_store: a lane that is not set up is kept; given up, its files go") {
    const TempDir dir;
    auto options = options_in(dir);
    options.bytes_max = 16_MiB;  // over it, space is given back at once
    RocksSetup setup;
    setup.lanes = {{}, {LaneId{1}, "second"}};
    {
        const auto store = open_rocks_store(options, setup).value();
        for (int i = 0; i < 100; ++i) {
            commit(*store, {make_segment(fmt::format("s{}", i), 4, LaneId{1}, 40'000)});
        }
        commit(*store, {make_segment("a", 3)});
        store->close();
    }
    CHECK(directory_bytes(options.dir) > 15_MiB);
    setup.lanes = {LaneName{}};
    {
        const auto store = open_rocks_store(options, setup).value();
        REQUIRE(store->lanes().size() == 2);
        CHECK(store->lanes()[1].spooled() == 400);
        CHECK(read_all(*store, 1, LaneId{1}).size() == 400);
        REQUIRE(store->ack({.lane = LaneId{1}, .next = 401}).has_value());
        REQUIRE(store->sync().has_value());
        CHECK(directory_bytes(options.dir) < 8_MiB);  // an empty log that has its space already
        CHECK(read_all(*store) == names("a", 0, 3));
    }
    setup.lanes = {{}, {LaneId{1}, "second"}};
    const auto store = open_rocks_store(options, setup).value();
    CHECK(store->lanes()[1].spooled() == 0);
    CHECK(store->lanes()[1].next_write == 401);  // no number is given out twice
}

TEST_CASE("spool/rocks_store: with a healthy upstream no segment reaches a table") {
    const TempDir dir;
    auto options = options_in(dir);
    const auto store = open_rocks_store(options).value();
    Seq next = 1;
    for (int i = 0; i < 100; ++i) {
        commit(*store, {make_segment(fmt::format("s{}", i), 4, kDefaultLane, 30'000)});
        next += 4;
        ack(*store, next);
    }
    store->close();
    CHECK(directory_bytes(options.dir) < 2_MiB);  // of 12 MiB
}

TEST_CASE("spool/rocks_store: dead letters are put back at the end of their lane, once") {
    const TempDir dir;
    const auto store = open_rocks_store(options_in(dir)).value();
    commit(*store, {make_segment("a", 3)});
    ack(*store, 2, {make_dead(1, "a.0"), make_dead(3, "a.2")});
    ack(*store, 2, {make_dead(3, "a.2")});  // comes again after a forgotten ack
    CHECK(store->stats().dead_letters == 2);
    const std::vector<Seq> dead{1, 3, 3, 99};
    CHECK(store->replay(kDefaultLane, test::revivals(kDefaultLane, dead)).value() == 2);
    CHECK(store->stats().dead_letters == 0);
    CHECK(read_all(*store) == std::vector<std::string>{"a.1", "a.2", "a.0", "a.2"});
    CHECK(store->replay(kDefaultLane, test::revivals(kDefaultLane, dead)).value() == 0);
    CHECK(ids_of(*store).size() == 3);  // the index is not asked
}

TEST_CASE("spool/rocks_store: a replay larger than a segment becomes several") {
    const TempDir dir;
    const auto store = open_rocks_store(options_in(dir)).value();
    commit(*store, {make_segment("a", 40)});
    std::vector<DeadLetter> dead;
    std::vector<Seq> seqs;
    for (Seq seq = 1; seq <= 40; ++seq) {
        dead.push_back(make_dead(seq, std::string(40'000, 'x')));
        seqs.push_back(seq);
    }
    ack(*store, 41, dead);
    CHECK(store->replay(kDefaultLane, test::revivals(kDefaultLane, seqs)).value() == 40);
    CHECK(read_all(*store).size() == 40);
    CHECK(state_of(*store).next_write == 81);
}

TEST_CASE("spool/rocks_store: admission dead letters are bounded, those of records are not") {
    const TempDir dir;
    auto setup = RocksSetup{};
    setup.dead = {.admission_letters = 5, .admission_bytes = 1_MiB};
    {
        const auto store = open_rocks_store(options_in(dir), setup).value();
        commit(*store, {make_segment("a", 20)});
        std::vector<DeadLetter> dead;
        for (Seq seq = 1; seq <= 20; ++seq) dead.push_back(make_dead(seq, "x"));
        ack(*store, 21, dead);
        for (int i = 0; i < 9; ++i) {
            const std::vector<DeadLetter> rejected{make_dead(0, "bad", DeadKind::admission)};
            REQUIRE(store->commit({}, rejected).has_value());
        }
        CHECK(store->stats().dead_letters == 25);
    }
    const auto store = open_rocks_store(options_in(dir), setup).value();
    CHECK(store->stats().dead_letters == 25);
    const std::vector<DeadLetter> many(8, make_dead(0, "bad", DeadKind::admission));
    REQUIRE(store->commit({}, many).has_value());
    CHECK(store->stats().dead_letters == 25);
}

TEST_CASE("spool/rocks_store: dead letters have the room that the options give them") {
    const TempDir dir;
    auto options = options_in(dir);
    options.bytes_max = 16_GiB;
    options.dead_bytes_max = 1_GiB;
    const auto store = open_rocks_store(options).value();
    CHECK(store->dead_usage().bytes_max == 1_GiB);
    // 4,5 MiB of events that were not accepted; a smaller spool has not so much room for them.
    const std::vector<DeadLetter> many(100,
                                       make_dead(0, std::string(45'000, 'x'), DeadKind::admission));
    REQUIRE(store->commit({}, many).has_value());
    CHECK(store->stats().dead_letters == 100);
    options.bytes_max = 64_MiB;
    store->set_limits(options);
    CHECK(store->dead_usage().bytes_max == plan_disk(options).dead);
    const std::vector<DeadLetter> one(1, make_dead(0, "x", DeadKind::admission));
    REQUIRE(store->commit({}, one).has_value());
    CHECK(store->stats().dead_letters < 50);
}

TEST_CASE("spool/rocks_store: reopening in place keeps everything") {
    const TempDir dir;
    const auto store = open_rocks_store(options_in(dir)).value();
    commit(*store, {make_segment("a", 3)});
    ack(*store, 2);
    REQUIRE(store->reopen().has_value());
    CHECK(state_of(*store).next_settle == 2);
    CHECK(read_all(*store) == names("a", 1, 3));
    commit(*store, {make_segment("b", 1)});
    CHECK(state_of(*store).next_write == 5);
}

TEST_CASE("spool/rocks_store: a closed spool refuses, it does not crash") {
    const TempDir dir;
    const auto store = open_rocks_store(options_in(dir)).value();
    store->close();
    store->close();
    const std::vector<Segment> segments{make_segment("a", 1)};
    CHECK(store->commit(segments, {}).error().code == Errc::spool_reopen);
    CHECK(store->read(kDefaultLane, 1).error().code == Errc::spool_reopen);
    CHECK(store->sync().error().code == Errc::spool_reopen);
    REQUIRE(store->reopen().has_value());
    CHECK(store->commit(segments, {}).has_value());
}

}  // namespace
}  // namespace opsrelay::spool
