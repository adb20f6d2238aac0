#include "spool/committer.h"

#include <doctest/doctest.h>

#include "intake/storage_world.h"
#include "support/log_capture.h"

namespace opsrelay::spool {

using test::Landed;
using test::LogCapture;
using test::StorageWorld;
using test::StoreCall;

TEST_CASE("spool/committer: what gathered during a commit goes into the next one") {
    StorageWorld world;
    world.start();
    world.push(3);
    world.run();
    CHECK(world.store.commits() == 1);
    CHECK(world.settled == std::vector<Position>{3});
    world.push(1);
    world.push(2);
    world.run();
    CHECK(world.store.commits() == 1);  // the gap of 2 ms is not over
    world.run(milliseconds{2});
    CHECK(world.store.commits() == 2);
    CHECK(world.settled == std::vector<Position>{3, 6});
    CHECK(world.committed.size() == 2);
    CHECK(world.ledger().storage.accepted == 6);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE(
    "spool/committer: a full disk holds the batch, and nothing is lost when there is room again") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.store.fail_next(StoreCall::commit, Errc::spool_full, 8);
    world.push(5);
    world.run(milliseconds{1000});
    CHECK(world.settled.empty());
    CHECK_FALSE(world.committer.trouble().empty());
    CHECK(world.ledger().pending == 5);
    CHECK(world.ledger().imbalance() == 0);
    world.run(milliseconds{2000});
    CHECK(world.settled == std::vector<Position>{5});
    CHECK(world.committer.trouble().empty());
    CHECK(world.ledger().spooled == 5);
    CHECK(log.count("commit refused") == 1);  // 8 refusals, one line
}

TEST_CASE("spool/committer: a store that became read-only is opened again, once") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    for (const auto landed : {Landed::no, Landed::yes}) {
        CAPTURE(static_cast<int>(landed));
        const auto before = world.handed;
        world.store.fail_next(StoreCall::commit, Errc::spool_reopen, 1, landed);
        world.push(4);
        world.run(milliseconds{1000});
        CHECK_FALSE(world.failure.has_value());
        REQUIRE_FALSE(world.settled.empty());
        CHECK(world.settled.back() == before + 4);
        CHECK(world.store.lanes()[0].next_write == before + 5);  // no record twice
        CHECK(world.ledger().imbalance() == 0);
    }
}

TEST_CASE("spool/committer: when opening again fails, everybody who waits is told and it ends") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.store.fail_next(StoreCall::commit, Errc::spool_reopen);
    world.store.fail_next(StoreCall::reopen, Errc::spool_io);
    world.push(4);
    world.run(milliseconds{1000});
    REQUIRE(world.failure.has_value());
    CHECK(exit_code(world.failure->code) == 6);
    CHECK(world.settled.empty());
    CHECK(world.tasks.size() == 0);
    CHECK(world.ledger().pending == 4);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/committer: a stop commits what is queued first") {
    StorageWorld world;
    world.start();
    world.push(1);
    world.run();
    for (int i = 0; i < 5; ++i) world.push(2);
    world.committer.request_stop(world.clock.now() + seconds{2});
    world.run(milliseconds{2});  // the gap
    CHECK(world.tasks.size() == 0);
    CHECK(world.settled.back() == 11);
    CHECK(world.ledger().pending == 0);
}

TEST_CASE("spool/committer: a stop does not wait for a disk that refuses beyond its time") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.store.fail_next(StoreCall::commit, Errc::spool_full, 1000);
    world.push(3);
    world.run(milliseconds{500});
    world.committer.request_stop(world.clock.now() + seconds{2});
    world.run(seconds{3});
    CHECK(world.tasks.size() == 0);
    CHECK(world.ledger().pending == 3);
    CHECK(log.count("given up at shutdown") == 1);
}

TEST_CASE("spool/committer: intake closes when the volume is full and opens again") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.start_housekeeping();
    world.run(seconds{1});
    CHECK(world.queue.spool_open());
    world.store.set_volume(1_MiB, 10_GiB);
    world.run(seconds{2});
    CHECK_FALSE(world.queue.spool_open());
    const auto told = world.settled.size();
    world.store.set_volume(9_GiB, 10_GiB);
    world.run(seconds{2});
    CHECK(world.queue.spool_open());
    CHECK(world.settled.size() > told);  // streams that wait for room hear of it
    CHECK(log.count("intake closed") == 1);
    CHECK(log.count("intake open again") == 1);
}

TEST_CASE("spool/committer: the reserve is given back to a full volume and taken again later") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.start_housekeeping();
    world.run(seconds{1});
    CHECK(world.store.stats().reserve == 16_MiB);
    world.store.set_volume(20_MiB, 10_GiB);  // 4 MiB of it for others
    world.run(seconds{1});
    CHECK(world.store.stats().reserve == Bytes{});
    world.store.set_volume(70_MiB, 10_GiB);
    world.run(seconds{2});
    CHECK(world.store.stats().reserve == Bytes{});
    world.store.set_volume(9_GiB, 10_GiB);
    world.run(seconds{1});
    CHECK(world.store.stats().reserve == 16_MiB);
    CHECK(log.count("the reserve is given back") == 1);
}

TEST_CASE("spool/committer: a write that meets a full volume gives the reserve back at once") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.start_housekeeping();
    world.run(seconds{1});
    REQUIRE(world.store.stats().reserve.count > 0);
    world.store.fail_next(StoreCall::commit, Errc::spool_full, 20);
    world.push(1);
    world.run(milliseconds{1});
    CHECK(world.store.stats().reserve == Bytes{});
    world.run(seconds{3});
    CHECK(world.store.stats().reserve == Bytes{});  // statvfs says there is space; the engine knows
    world.run(seconds{5});
    CHECK(world.settled.back() == 1);
    CHECK(world.store.stats().reserve == 16_MiB);
}

TEST_CASE("spool/committer: without a reserve it goes on, and asks again a minute later") {
    const LogCapture log;
    StorageWorld world;
    world.store.refuse_reserve(Errc::spool_io);
    world.start();
    world.start_housekeeping();
    world.run(seconds{30});
    CHECK(log.count("no space could be set aside") == 1);
    world.store.refuse_reserve(std::nullopt);
    world.run(seconds{20});
    CHECK(world.store.stats().reserve == Bytes{});
    world.run(seconds{20});
    CHECK(world.store.stats().reserve == 16_MiB);
}

TEST_CASE("spool/committer: drop_oldest makes room before intake closes, refuse does not") {
    for (const auto policy : {OnFull::refuse, OnFull::drop_oldest}) {
        CAPTURE(to_string(policy));
        const LogCapture log;
        Options options;
        options.bytes_max = 256_KiB;
        options.on_full = policy;
        options.ids.ids_max = 1000;  // it is the records that fill it
        options.ids.seal_ids = 100;
        StorageWorld world(options);
        world.start();
        world.start_ids();
        world.start_housekeeping();
        bool closed = false;
        for (int i = 0; i < 40; ++i) {
            world.push(400);
            world.run(seconds{1});
            closed = closed || !world.queue.spool_open();
        }
        const auto dropped = world.ledger().storage.dropped[index_of(DropReason::oldest)];
        CHECK(world.ledger().imbalance() == 0);
        CHECK(closed == (policy == OnFull::refuse));
        CHECK((dropped > 0) == (policy == OnFull::drop_oldest));
        CHECK(world.settler.spooled() == 16'000 - dropped);
        CHECK(world.settler.spooled() > 1000);  // no more than needed
    }
}

TEST_CASE("spool/committer: drop_oldest drops nothing where that cannot open intake") {
    const LogCapture log;
    Options options;
    options.bytes_max = 256_KiB;
    options.on_full = OnFull::drop_oldest;
    options.ids.ids_max = 1000;
    options.ids.seal_ids = 100;
    StorageWorld world(options);
    world.start();
    world.start_ids();
    world.start_housekeeping();
    for (int i = 0; i < 5; ++i) {
        world.push(400);
        world.run(seconds{1});
    }
    CHECK(world.queue.spool_open());
    CHECK(world.store.lane_bytes(kDefaultLane) > 16_KiB);  // else it would not be worth it
    world.store.keep_copies({"/spool/repaired-1", "/spool/repaired-2"}, 256_KiB);
    world.run(seconds{5});
    CHECK_FALSE(world.queue.spool_open());
    CHECK(world.ledger().storage.dropped[index_of(DropReason::oldest)] == 0);
    CHECK(log.count("deliveries alone do not open it again; nothing needs /spool/repaired-1, "
                    "/spool/repaired-2 any more: look at it, then delete it") == 1);
    world.store.keep_copies({}, 0_B);
    world.run(seconds{2});
    CHECK(world.queue.spool_open());
}

TEST_CASE(
    "spool/committer: an ack that finds the store read-only has it opened again, without a "
    "commit") {
    const LogCapture log;
    StorageWorld world;
    world.start();
    world.start_housekeeping();
    world.push(2);
    world.run(milliseconds{10});
    world.store.fail_next(StoreCall::ack, Errc::spool_reopen);
    std::vector<Settlement> ends{{.seq = 1, .delivered = true, .dead = {}}};
    asio::co_spawn(world.io, world.settler.settle(kDefaultLane, std::move(ends)),
                   [](const std::exception_ptr&, const Settler::Settled&) {});
    world.run(seconds{3});
    CHECK(log.count("opening the spool again") == 1);
    CHECK(world.store.lanes()[0].next_settle == 2);
    CHECK(world.committer.trouble().empty());
}

}  // namespace opsrelay::spool
