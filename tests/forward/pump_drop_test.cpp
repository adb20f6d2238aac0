// Records that are given up: too old, or the oldest of a full spool.
#include <doctest/doctest.h>

#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::answer;
using World = test::PumpWorld;

std::uint64_t dropped(const World& world, DropReason reason) {
    return world.totals.dropped.at(index_of(reason));
}

bool all_counted(const World& world) {
    std::uint64_t gone = 0;
    for (const auto count : world.totals.dropped) gone += count;
    return world.totals.accepted ==
           world.totals.delivered + world.totals.dead + gone + world.settler.spooled();
}

Options with_max_age(milliseconds max_age) {
    Options options;
    options.max_age = max_age;
    return options;
}

}  // namespace

TEST_CASE("forward/pump_drop: what is older than max_age goes, what is younger is delivered") {
    World world(with_max_age(minutes{10}));
    world.upstream.otherwise(answer(503));
    world.commit(300);
    world.start();
    world.run_for(minutes{9});
    CHECK(dropped(world, DropReason::expired) == 0);
    world.commit(50);
    world.run_for(minutes{3});
    CHECK(dropped(world, DropReason::expired) == 300);
    CHECK(world.settler.spooled() == 50);
    CHECK(world.store.lanes()[0].next_settle == 301);
    world.upstream.otherwise(test::accept());
    REQUIRE(world.run_until_settled());
    CHECK(world.totals.delivered == 50);
    CHECK(world.log.count("old events are given up") == 1);
    CHECK(all_counted(world));
}

TEST_CASE("forward/pump_drop: a long backlog that is too old goes without being sent") {
    World world(with_max_age(minutes{10}));
    for (int i = 0; i < 60; ++i) world.commit(500);
    world.run_for(hours{1});
    world.commit(3);
    world.start();
    REQUIRE(world.run_until_settled(minutes{1}));
    CHECK(dropped(world, DropReason::expired) == 30'000);
    CHECK(world.upstream.rows().size() == 3);
    CHECK(all_counted(world));
}

TEST_CASE("forward/pump_drop: what is being sent is kept, and ends as it ends") {
    Options options;
    World world(options);
    world.upstream.otherwise(test::hang());
    for (int i = 0; i < 10; ++i) world.commit(500);
    world.start();
    world.run_for(seconds{1});
    const auto under_way = static_cast<std::uint64_t>(world.upstream.in_flight());
    REQUIRE(under_way > 0);
    world.pump.drop_below(4001, DropReason::oldest);
    world.run_for(milliseconds{1});
    CHECK(dropped(world, DropReason::oldest) == 4000 - under_way);
    CHECK(world.settler.spooled() == 1000 + under_way);
    CHECK(world.store.lanes()[0].next_settle == 1);
    world.pump.drop_below(4001, DropReason::oldest);  // nothing is left to drop
    world.run_for(milliseconds{1});
    CHECK(dropped(world, DropReason::oldest) == 4000 - under_way);

    world.upstream.otherwise(test::accept());
    REQUIRE(world.run_until_settled());
    CHECK(world.totals.delivered == 1000 + under_way);
    CHECK(world.upstream.rows().size() == 1000 + under_way);
    CHECK(world.store.lanes()[0].next_settle == 5001);
    CHECK(all_counted(world));
}

TEST_CASE("forward/pump_drop: records that wait to be sent again are dropped like fresh ones") {
    World world;
    world.upstream.otherwise(answer(503));
    world.commit(100);
    world.start();
    world.run_for(minutes{5});
    REQUIRE(world.upstream.in_flight() == 0);
    world.pump.drop_below(51, DropReason::oldest);
    world.run_for(seconds{1});
    CHECK(dropped(world, DropReason::oldest) == 50);
    world.upstream.otherwise(test::accept());
    REQUIRE(world.run_until_settled());
    CHECK(world.upstream.rows().size() == 50);
    CHECK(all_counted(world));
}

TEST_CASE("forward/pump_drop: a drop that the store refuses is written later, and counted once") {
    World world;
    world.upstream.otherwise(answer(503));
    world.commit(100);
    world.start();
    world.run_for(seconds{1});
    world.store.fail_next(test::StoreCall::ack, Errc::spool_full, 2);
    world.pump.drop_below(101, DropReason::oldest);
    world.run_for(milliseconds{10});
    CHECK(world.store.lanes()[0].next_settle == 1);
    world.run_for(seconds{10});
    CHECK(world.store.lanes()[0].next_settle > 90);  // all but what was under way
    world.upstream.otherwise(test::accept());
    REQUIRE(world.run_until_settled());
    CHECK(dropped(world, DropReason::oldest) + world.totals.delivered == 100);
    CHECK(all_counted(world));
}

TEST_CASE("forward/pump_drop: a stop does not wait for a drop") {
    World world;
    world.upstream.otherwise(answer(503));
    world.commit(100);
    world.start();
    world.run_for(seconds{1});
    world.store.fail_next(test::StoreCall::ack, Errc::spool_full, 1000);
    world.pump.drop_below(101, DropReason::oldest);
    world.stop(seconds{0});
    CHECK(all_counted(world));
}

}  // namespace opsrelay::forward
