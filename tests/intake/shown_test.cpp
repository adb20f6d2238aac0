// What one who watches sees of events on their way to the disk, and of those that are given up
// there.
#include <doctest/doctest.h>

#include <boost/asio/io_context.hpp>
#include <string>
#include <vector>

#include "intake.h"
#include "intake/storage_world.h"
#include "support/watcher.h"

namespace opsrelay {

namespace {

std::string event_json(const std::string& id, int tokens = 1) {
    return R"({"externalRequestId":")" + id +
           R"(","provider":"openai","model":"m","inputTokens":)" + std::to_string(tokens) +
           R"(,"outputTokens":1,"totalTokens":2,"status":"success"})";
}

/// Intake that is watched; what it takes in stays in its queue.
struct World {
    World() { intake.set_tap(&watcher.tap); }
    void offer(const std::vector<std::string>& events, Origin origin = {}) {
        std::vector<listen::Message> messages;
        for (const auto& bytes : events) messages.push_back({.bytes = bytes});
        REQUIRE(intake.offer(messages, origin).size() == events.size());
    }

    asio::io_context io;
    SystemClock clock;
    Xoshiro rng{1};
    observe::Registry registry;
    test::Watcher watcher;
    spool::SegmentQueue queue{8_MiB};
    Intake intake{io.get_executor(), clock, rng, 42, {}, queue, registry, [] {}};
};

}  // namespace

TEST_CASE("intake: each event of a burst is shown once, with what became of it") {
    World world;
    world.offer({event_json("a"), event_json("a"), "broken", event_json("a", 7),
                 R"({"externalRequestId":"b","provider":"openai"})", event_json("c")});
    CHECK(world.watcher.take() ==
          "rejected: not_json; rejected b: missing_model; accepted a; duplicate a: same; "
          "duplicate a: conflict; accepted c");
    world.queue.set_spool_open(false);
    world.offer({event_json("d")});
    CHECK(world.watcher.take() == "shed: spool_full");
    world.offer({event_json("d")}, {.kind = ListenerKind::unix_stream});
    CHECK(world.watcher.take() == "accepted d");
}

TEST_CASE("intake: only what somebody wants is shown") {
    World world;
    world.watcher.tap.want(bit(observe::Sight::duplicate));
    world.offer({event_json("a"), event_json("a"), "broken"});
    CHECK(world.watcher.take() == "duplicate a: same");
    world.watcher.tap.want(0);
    world.offer({event_json("a"), event_json("b"), "broken"});
    CHECK(world.watcher.take().empty());
    CHECK(world.watcher.tap.take_missed() == 0);
}

TEST_CASE("spool/settler: what is given up is shown as one line, however it is lost") {
    test::Watcher watcher;
    test::StorageWorld world;
    world.settler.set_tap(&watcher.tap);
    world.start();
    world.push(20);
    world.run();
    asio::co_spawn(world.io, world.settler.drop(kDefaultLane, 11, {2, 5}, DropReason::oldest),
                   asio::detached);
    world.run();
    CHECK(watcher.take() == "dropped x8: oldest");
    REQUIRE(world.store.damage(kDefaultLane, 1));
    asio::co_spawn(world.io, world.settler.read(kDefaultLane, 1),
                   [](const std::exception_ptr&, const Result<spool::RecordBatch>&) {});
    world.run();
    CHECK(watcher.take() == "dropped x12: corrupt");
    world.push(3);
    world.run(milliseconds{10});
    REQUIRE(world.settler.purge_lane(kDefaultLane).has_value());
    CHECK(watcher.take() == "dropped x3: purged");
    REQUIRE(world.settler.purge_lane(kDefaultLane).has_value());
    CHECK(watcher.take().empty());  // nothing was there
    CHECK(world.ledger().imbalance() == 0);
}

}  // namespace opsrelay
