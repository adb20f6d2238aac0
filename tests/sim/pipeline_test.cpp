// Several lanes in one pipeline: what each must not do to the others.
#include "sim/pipeline_world.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace opsrelay::sim {

TEST_CASE("pipeline: each lane sends its own events, and the same id in two lanes is two events") {
    TwoLanes world;
    world.upstream.tier = "Free";
    CHECK(world.offer(kDefaultLane, 3)[0].admission == listen::Admission::accepted);
    const auto offered = world.offer(kSecondLane, 2);
    CHECK(offered[0].admission == listen::Admission::accepted);
    CHECK(world.offer(kSecondLane, 1)[0].admission == listen::Admission::duplicate);
    world.run(seconds{1});
    CHECK(world.upstream.received.size() == 3);
    CHECK(world.second_upstream.received.size() == 2);
    CHECK(world.plan.get().plan_tier == "Free");
    CHECK(world.second_plan.get().plan_tier == "Pro");
    const auto view = world.snapshot();
    CHECK(view.ledger.storage.delivered == 5);
    CHECK(view.ledger.imbalance() == 0);
}

TEST_CASE("pipeline: a lane whose upstream never answers does not delay the other one") {
    TwoLanes world;
    world.upstream.answers = false;
    world.offer(kDefaultLane, 2000);
    world.run(minutes{1});
    for (std::size_t i = 0; i < 20; ++i) {
        world.offer(kSecondLane, 10, i * 10);
        world.offer(kDefaultLane, 10, 2000 + i * 10);
        world.run(milliseconds{500});
        CAPTURE(i);
        CHECK(world.second_upstream.received.size() == (i + 1) * 10);
    }
    const auto view = world.snapshot();
    CHECK(view.spooled_by_lane == by_lane({2200, 0}));
    CHECK(view.ledger.spooled == 2200);
    const auto lanes = world.pipeline.lanes();
    REQUIRE(lanes.size() == 2);
    CHECK(lanes[0].name == "default");
    CHECK(lanes[0].state == forward::LaneState::backing_off);
    CHECK(lanes[0].oldest_received_unix_ms.has_value());
    CHECK(lanes[1].name == "second");
    CHECK(lanes[1].state == forward::LaneState::active);
    CHECK_FALSE(lanes[1].oldest_received_unix_ms.has_value());
    CHECK(world.registry.gauge(observe::kLaneState, "second", "active").value() == 1.0);
    CHECK(world.registry.gauge(observe::kLaneState, "default", "active").value() == 0.0);
}

TEST_CASE("pipeline: a stop gives all lanes the same deadline, not one after the other") {
    TwoLanes world;
    world.upstream.answers = world.second_upstream.answers = false;
    world.offer(kDefaultLane, 5);
    world.offer(kSecondLane, 5);
    world.run(milliseconds{100});
    const auto began = world.clock.now();
    world.stop(milliseconds{2000});
    CHECK(world.clock.now() - began <= milliseconds{2001});
}

TEST_CASE("pipeline: draining delivers the well lane's events although another one is down") {
    TwoLanes world;
    world.upstream.answers = false;
    world.offer(kDefaultLane, 5);
    world.offer(kSecondLane, 300);
    std::optional<bool> drained;
    const auto deadline = world.clock.now() + seconds{20};
    asio::co_spawn(world.io, drain_and_tell(world.pipeline, deadline, drained), asio::detached);
    world.run(seconds{21});
    CHECK(drained == false);
    CHECK(world.second_upstream.received.size() == 300);
    CHECK(world.snapshot().spooled_by_lane == by_lane({5, 0}));
}

TEST_CASE("pipeline: what a drained lane gets while another drains is delivered or told") {
    TwoLanes world;
    world.second_upstream.answers = false;
    world.offer(kSecondLane, 5);
    std::optional<bool> drained;
    const auto deadline = world.clock.now() + seconds{30};
    asio::co_spawn(world.io, drain_and_tell(world.pipeline, deadline, drained), asio::detached);
    world.run(seconds{1});  // the first lane is through
    world.upstream.answers = false;
    world.offer(kDefaultLane, 3);
    world.run(seconds{1});
    world.second_upstream.answers = true;
    world.run(seconds{14});
    CHECK(world.second_upstream.received.size() == 5);
    CHECK(!drained.has_value());
    SUBCASE("delivered") {
        world.upstream.answers = true;
        world.run(seconds{15});
        CHECK(drained == true);
        CHECK(world.upstream.received.size() == 3);
    }
    SUBCASE("not before the deadline") {
        world.run(seconds{15});
        CHECK(drained == false);
    }
}

TEST_CASE(
    "pipeline: a parked lane with a large backlog costs the other one no read and no commit") {
    constexpr std::size_t kBacklog = 60'000;
    TwoLanes world;
    world.pipeline.pump().set_key("");  // parks it: nothing is sent
    for (std::size_t i = 0; i < kBacklog; i += 500) world.offer(kDefaultLane, 500, i);
    world.run(seconds{1});
    const auto parked_reads = world.store.reads(kDefaultLane);
    const auto commits = world.store.commits();
    for (std::size_t i = 0; i < 100; ++i) {
        world.offer(kSecondLane, 10, i * 10);
        world.run(milliseconds{100});
    }
    CHECK(world.second_upstream.received.size() == 1000);
    // Each group that is committed is read once, and once more to see that it was the last.
    CHECK(world.store.commits() - commits == 100);
    CHECK(world.store.reads(kSecondLane) <= 202);
    // The parked one holds its first records in memory and reads no further.
    CHECK(parked_reads <= 10);
    CHECK(world.store.reads(kDefaultLane) == parked_reads);
    CHECK(world.snapshot().spooled_by_lane == by_lane({kBacklog, 0}));

    world.pipeline.pump().set_key("key");
    world.run(minutes{2});
    CHECK(world.upstream.received.size() == kBacklog);
}

TEST_CASE("pipeline: two lanes with a backlog are read in turn") {
    TwoLanes world;
    world.pipeline.pump().set_key("");
    world.pipeline.pump(kSecondLane).set_key("");
    for (std::size_t i = 0; i < 20'000; i += 500) {
        world.offer(kDefaultLane, 500, i);
        world.offer(kSecondLane, 500, i);
    }
    world.run(seconds{1});
    world.pipeline.pump().set_key("key");
    world.pipeline.pump(kSecondLane).set_key("key");
    for (int i = 0; i < 10; ++i) {
        world.run(milliseconds{500});
        CAPTURE(i);
        const auto one = world.upstream.received.size();
        const auto other = world.second_upstream.received.size();
        CHECK(std::max(one, other) - std::min(one, other) <= 16);
        const auto reads = static_cast<std::int64_t>(world.store.reads(kDefaultLane)) -
                           static_cast<std::int64_t>(world.store.reads(kSecondLane));
        CHECK(std::abs(reads) <= 1);
    }
}

TEST_CASE("pipeline: a lane that is not configured keeps its records, is reported, and goes on") {
    test::MemStore store{1, {kDefaultLane, kSecondLane}};
    {
        Harness both(store, true);
        both.second_upstream.answers = false;
        both.offer(kSecondLane, 40);
        both.offer(kDefaultLane, 3);
        both.run(seconds{1});
        both.stop(milliseconds{0});
    }
    store.restart();
    {
        Harness one(store, false);
        CHECK(one.log.count("a lane with records is not configured") == 1);
        CHECK(one.log.count("opsrelay spool purge --lane lane-1") == 1);
        one.offer(kDefaultLane, 5, 100);
        one.run(seconds{1});
        const auto view = one.snapshot();
        REQUIRE(view.unconfigured.size() == 1);
        CHECK(view.unconfigured[0].name.name == "lane-1");
        CHECK(view.unconfigured[0].spooled == 40);
        CHECK(view.spooled_by_lane == by_lane({0}));
        CHECK(view.ledger.storage.recovered == 40);
        CHECK(view.ledger.spooled == 40);
        CHECK(view.ledger.imbalance() == 0);
        CHECK(one.upstream.received.size() == 5);
        one.stop(seconds{1});
    }
    store.restart();
    {
        Harness both(store, true);
        both.run(seconds{1});
        CHECK(both.second_upstream.received.size() == 40);
        CHECK(both.snapshot().unconfigured.empty());
        CHECK(both.snapshot().ledger.imbalance() == 0);
    }
}

TEST_CASE("pipeline: the records of a lane that is not configured end when they are purged") {
    test::MemStore store{1, {kDefaultLane, kSecondLane}};
    {
        Harness both(store, true);
        both.second_upstream.answers = false;
        both.offer(kSecondLane, 40);
        both.run(seconds{1});
        both.stop(milliseconds{0});
    }
    store.restart();
    {
        Harness one(store, false);
        CHECK(one.pipeline.settler().purge_lane(kSecondLane).value() == 40);
        CHECK(one.pipeline.settler().purge_lane(kSecondLane).value() == 0);
        const auto view = one.snapshot();
        REQUIRE(view.unconfigured.size() == 1);
        CHECK(view.unconfigured[0].spooled == 0);
        CHECK(view.ledger.spooled == 0);
        CHECK(view.ledger.storage.dropped[index_of(DropReason::purged)] == 40);
        CHECK(view.ledger.imbalance() == 0);
        one.stop(seconds{1});
    }
    store.crash();  // it was durable when it returned
    Harness both(store, true);
    both.offer(kSecondLane, 2, 100);
    both.run(seconds{1});
    CHECK(both.second_upstream.received.size() == 2);
    CHECK(both.snapshot().ledger.storage.recovered == 0);
}

TEST_CASE("pipeline: without room for dead letters a lane parks, others go on until they need it") {
    test::MemStore store{1, {kDefaultLane, kSecondLane}, {.upstream_letters = 1}};
    Harness world(store, true);
    world.upstream.refuses = "id-1";  // id-1, id-10, ...
    world.offer(kDefaultLane, 12);
    world.run(seconds{10});
    CHECK(world.pipeline.pump().status().state == forward::LaneState::dead_full);
    world.offer(kSecondLane, 500);
    world.run(seconds{10});
    CHECK(world.second_upstream.received.size() == 500);
    CHECK(world.pipeline.pump(kSecondLane).status().state == forward::LaneState::active);
    auto& settler = world.pipeline.settler();
    for (int i = 0; i < 12 && settler.spooled() > 0; ++i) {
        std::vector<spool::DeadKey> keys;
        for (const auto& letter : store.dead_letters()) keys.push_back(key_of(letter));
        CHECK(settler.purge_dead(keys).has_value());
        world.run(seconds{10});
    }
    const auto view = world.snapshot();
    CHECK(view.ledger.spooled == 0);
    CHECK(view.ledger.storage.dead == 3);
    CHECK(view.ledger.imbalance() == 0);
}

TEST_CASE("pipeline: a lane comes and goes while the others deliver, and keeps its records") {
    test::MemStore store{1, {kDefaultLane}};
    Harness world(store, false);
    const auto made = world.await(make_lane(world.pipeline, "europe"));
    CHECK(made == kSecondLane);
    CHECK(world.await(make_lane(world.pipeline, "europe")) == kSecondLane);
    const Pipeline::Lane europe{{made, "europe"}, {}, world.second_upstream, world.second_plan};
    world.await(add_lane(world.pipeline, europe));
    world.pipeline.pump(made).set_key("key");
    world.offer(made, 30);
    world.offer(kDefaultLane, 30);
    world.run(seconds{2});
    CHECK(world.second_upstream.received.size() == 30);
    CHECK(world.snapshot().spooled_by_lane == by_lane({0, 0}));

    world.second_upstream.answers = false;
    world.offer(made, 20, 100);
    world.run(seconds{1});
    world.await(remove_lane(world.pipeline, made, world.clock.now() + seconds{2}));
    CHECK(world.pipeline.find_pump(made) == nullptr);
    world.offer(made, 5, 200);  // what ingest took before it knew
    world.offer(kDefaultLane, 10, 200);
    world.run(seconds{2});
    CHECK(world.upstream.received.size() == 40);
    const auto view = world.snapshot();
    REQUIRE(view.unconfigured.size() == 1);
    CHECK(view.unconfigured[0].name.name == "europe");
    CHECK(view.unconfigured[0].spooled == 25);
    CHECK(view.ledger.imbalance() == 0);
    CHECK(world.log.count("a lane with records is not configured") == 1);

    world.second_upstream.answers = true;
    world.await(add_lane(world.pipeline, europe));
    world.pipeline.pump(made).set_key("key");
    world.run(seconds{5});
    CHECK(world.second_upstream.received.size() == 55);
    CHECK(world.snapshot().ledger.spooled == 0);
    CHECK(world.snapshot().ledger.imbalance() == 0);
}

TEST_CASE("pipeline: a lane that is made anew obeys the Retry-After of the same upstream") {
    test::MemStore store{1, {kDefaultLane}};
    Harness world(store, false);
    world.upstream.wait = "3600";
    world.offer(kDefaultLane, 3);
    world.run(seconds{2});
    REQUIRE(world.pipeline.pump().status().state == forward::LaneState::throttled);
    REQUIRE(world.upstream.throttled == 1);
    auto lane = world.lanes()[0];
    SUBCASE("the same") {
        for (int reload = 0; reload < 2; ++reload) {
            world.run(minutes{10});
            world.await(remove_lane(world.pipeline, kDefaultLane, world.clock.now()));
            world.await(add_lane(world.pipeline, lane));
            world.pipeline.pump().set_key("other key");
        }
        world.upstream.wait.clear();
        CHECK(world.pipeline.pump().status().state == forward::LaneState::throttled);
        world.run(minutes{39});
        CHECK(world.upstream.received.empty());
        world.run(minutes{1});
        CHECK(world.upstream.received.size() == 3);
        CHECK(world.upstream.throttled == 1);
    }
    SUBCASE("another one") {
        world.upstream.wait.clear();
        world.await(remove_lane(world.pipeline, kDefaultLane, world.clock.now()));
        lane.forward.url = "https://elsewhere.example";
        world.await(add_lane(world.pipeline, lane));
        world.pipeline.pump().set_key("key");
        world.run(seconds{2});
        CHECK(world.upstream.received.size() == 3);
    }
}

TEST_CASE("pipeline: a paused lane sends nothing, restarts included, until it goes on") {
    test::MemStore store{1, {kDefaultLane, kSecondLane}};
    {
        Harness both(store, true);
        REQUIRE(both.pipeline.settler().set_paused(kSecondLane, true).has_value());
        both.pipeline.note_paused(kSecondLane, true);
        both.run(milliseconds{10});
        both.offer(kSecondLane, 12);
        both.offer(kDefaultLane, 12);
        both.run(seconds{30});
        CHECK(both.upstream.received.size() == 12);
        CHECK(both.second_upstream.received.empty());
        CHECK(both.pipeline.pump(kSecondLane).status().state == forward::LaneState::paused);
        both.stop(milliseconds{0});
    }
    store.crash();
    Harness both(store, true);
    both.run(hours{2});
    CHECK(both.second_upstream.received.empty());
    CHECK(both.pipeline.pump(kSecondLane).status().state == forward::LaneState::paused);
    std::optional<bool> drained;
    asio::co_spawn(both.io, drain_and_tell(both.pipeline, both.clock.now() + hours{1}, drained),
                   asio::detached);
    both.run(seconds{1});
    CHECK(drained == false);  // it is not waited for
    REQUIRE(both.pipeline.settler().set_paused(kSecondLane, false).has_value());
    both.pipeline.note_paused(kSecondLane, false);
    both.run(seconds{5});
    CHECK(both.second_upstream.received.size() == 12);
    CHECK(both.snapshot().ledger.imbalance() == 0);
}

TEST_CASE("pipeline: what intake took is committed before a flush counts it") {
    test::MemStore store{1, {kDefaultLane}};
    Harness world(store, false);
    CHECK(world.await(commit_pending(world.pipeline, world.clock.now() + seconds{1})));
    store.refuse_writes(Errc::spool_full);
    world.offer(kDefaultLane, 5);
    CHECK_FALSE(world.await(commit_pending(world.pipeline, world.clock.now() + seconds{1})));
    store.refuse_writes(std::nullopt);
    CHECK(world.await(commit_pending(world.pipeline, world.clock.now() + seconds{5})));
    CHECK(world.pipeline.settler().end(kDefaultLane) == 6);
}

}  // namespace opsrelay::sim
