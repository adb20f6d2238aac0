// Lanes of an open spool: made, paused, and what a crash leaves of that.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>

#include <memory>
#include <vector>

#include "samples.h"
#include "spool/keys.h"
#include "spool/quarantine.h"
#include "spool/rocks_options.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

using test::make_segment;
using test::TempDir;

Options options_in(const TempDir& dir) {
    Options options;
    options.dir = dir / "spool";
    return options;
}

void commit(Store& store, LaneId lane, std::uint32_t count) {
    const auto segment = make_segment("x", count, lane);
    REQUIRE(store.commit({&segment, 1}, {}).has_value());
}

LaneState state_of(const Store& store, LaneId lane) {
    for (const auto& state : store.lanes()) {
        if (state.lane == lane) return state;
    }
    FAIL("no such lane");
    return {};
}

TEST_CASE("spool/rocks_lanes: a lane made while the spool is open keeps number and records") {
    const TempDir dir;
    LaneId europe{0};
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        europe = store->make_lane("europe").value();
        CHECK(europe == LaneId{1});
        CHECK(store->make_lane("europe").value() == europe);
        CHECK(store->make_lane("default").value() == kDefaultLane);
        commit(*store, europe, 5);
        REQUIRE(store->reopen().has_value());
        commit(*store, europe, 2);
        CHECK(store->read(europe, 6).value().size() == 2);
    }
    const auto store = open_rocks_store(options_in(dir)).value();
    CHECK(store->make_lane("asia").value() == LaneId{2});
    CHECK(store->make_lane("europe").value() == europe);
    CHECK(state_of(*store, europe).name == "europe");
    CHECK(state_of(*store, europe).next_write == 8);
    CHECK(store->read(europe, 1).value().size() == 5);
}

TEST_CASE("spool/rocks_lanes: a pause survives, of its lane only, until it is taken back") {
    const TempDir dir;
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        REQUIRE(store->make_lane("europe").has_value());
        REQUIRE(store->set_paused(LaneId{1}, true).has_value());
        REQUIRE(store->set_paused(LaneId{1}, true).has_value());
    }
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        CHECK(state_of(*store, LaneId{1}).paused);
        CHECK_FALSE(state_of(*store, kDefaultLane).paused);
        REQUIRE(store->set_paused(LaneId{1}, false).has_value());
    }
    CHECK_FALSE(state_of(*open_rocks_store(options_in(dir)).value(), LaneId{1}).paused);
}

TEST_CASE("spool/rocks_lanes: after 64 names a new one is refused, an old one is not") {
    const TempDir dir;
    const auto store = open_rocks_store(options_in(dir)).value();
    for (std::size_t i = 1; i < kLaneNumbersMax; ++i) {
        REQUIRE(store->make_lane(fmt::format("lane-of-{}", i)).has_value());
    }
    const auto refused = store->make_lane("one-more");
    REQUIRE(refused.has_error());
    CHECK(refused.error().code == Errc::refused);
    CHECK(refused.error().context.find("one-more") != std::string::npos);
    CHECK(store->make_lane("lane-of-63").value() == LaneId{63});
    commit(*store, LaneId{63}, 3);
    CHECK(store->read(LaneId{63}, 1).value().size() == 3);
}

// What a crash between the two steps of making a lane leaves.
void make_family_without_name(const Options& options) {
    const auto path = database_dir(options);
    std::vector<std::string> names;
    const auto db_options = make_db_options(options);
    REQUIRE(rocksdb::DB::ListColumnFamilies(db_options, path, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const auto& name : names) {
        families.emplace_back(name, make_family_options(name, options, make_block_cache(options)));
    }
    rocksdb::DB* opened = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    REQUIRE(rocksdb::DB::Open(db_options, path, families, &handles, &opened).ok());
    const std::unique_ptr<rocksdb::DB> db(opened);
    rocksdb::ColumnFamilyHandle* made = nullptr;
    const auto name = segment_family(LaneId{1});
    REQUIRE(db->CreateColumnFamily(make_family_options(name, options, make_block_cache(options)),
                                   name, &made)
                .ok());
    handles.push_back(made);
    for (auto* const handle : handles) REQUIRE(db->DestroyColumnFamilyHandle(handle).ok());
}

TEST_CASE("spool/rocks_lanes: a lane whose making a crash cut short is finished by the next one") {
    const TempDir dir;
    REQUIRE(open_rocks_store(options_in(dir)).has_value());
    make_family_without_name(options_in(dir));
    {
        const auto store = open_rocks_store(options_in(dir)).value();
        REQUIRE(store->lanes().size() == 2);
        CHECK(store->make_lane("europe").value() == LaneId{1});
        commit(*store, LaneId{1}, 4);
    }
    const auto store = open_rocks_store(options_in(dir)).value();
    REQUIRE(store->lanes().size() == 2);
    CHECK(state_of(*store, LaneId{1}).name == "europe");
    CHECK(store->make_lane("asia").value() == LaneId{2});
}

TEST_CASE("spool/rocks_lanes: limits may change while the spool is open") {
    const TempDir dir;
    auto options = options_in(dir);
    const auto store = open_rocks_store(options).value();
    CHECK(store->dead_usage().bytes_max == options.dead_bytes_max);
    options.bytes_max = Bytes{64U << 20U};
    store->set_limits(options);
    CHECK(store->dead_usage().bytes_max == plan_disk(options).dead);
    CHECK(plan_disk(options).dead < options.dead_bytes_max);
}

}  // namespace
}  // namespace opsrelay::spool
