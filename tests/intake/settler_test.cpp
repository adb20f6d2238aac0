#include "spool/settler.h"

#include <doctest/doctest.h>

#include "intake/storage_world.h"
#include "support/log_capture.h"

namespace opsrelay::spool {

namespace {

using test::StorageWorld;
using test::StoreCall;

struct World : StorageWorld {
    explicit World(std::uint32_t records) {
        start();
        push(records);
        run();
    }
    void settle(const std::vector<Seq>& delivered, const std::vector<Seq>& dead = {}) {
        std::vector<Settlement> ends;
        for (const auto seq : delivered)
            ends.push_back({.seq = seq, .delivered = true, .dead = {}});
        for (const auto seq : dead) {
            DeadLetter letter;
            letter.reason = "upstream_400";
            letter.payload = "{}";
            REQUIRE(settler.take_dead_room(letter));
            ends.push_back({.seq = seq, .delivered = false, .dead = letter});
        }
        asio::co_spawn(io, settler.settle(kDefaultLane, std::move(ends)), asio::detached);
        run();
    }
    RecordBatch read(Seq from) {
        std::optional<RecordBatch> batch;
        asio::co_spawn(io, settler.read(kDefaultLane, from),
                       [&batch](const std::exception_ptr&, Result<RecordBatch> result) {
                           batch = std::move(*result);
                       });
        run();
        REQUIRE(batch.has_value());
        return *batch;
    }
    [[nodiscard]] LaneState stored() const { return store.lanes()[0]; }
};

}  // namespace

TEST_CASE("spool/settler: the cursor follows the contiguous prefix, the rest is kept ahead of it") {
    World world(6);
    world.settle({2, 4});
    CHECK(world.stored().next_settle == 1);
    CHECK(world.stored().ahead == std::vector<Seq>{2, 4});
    CHECK(world.settler.spooled() == 4);
    world.settle({1});
    CHECK(world.stored().next_settle == 3);
    CHECK(world.stored().ahead == std::vector<Seq>{4});
    world.settle({3, 5, 6});
    CHECK(world.stored().next_settle == 7);
    CHECK(world.settler.spooled() == 0);
    CHECK(world.ledger().storage.delivered == 6);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler: a restart goes on where it ended, without what was settled ahead") {
    World world(5);
    world.settle({2, 3, 5});
    observe::StorageTotals totals;
    Settler next(world.io.get_executor(), world.store, totals);
    world.store.restart();
    next.adopt(true);
    CHECK(next.start_of(kDefaultLane).first == 1);
    CHECK(totals.recovered == 2);
    CHECK(next.spooled() == 2);
}

TEST_CASE("spool/settler: what is settled already is marked when it is read") {
    World world(4);
    world.settle({2, 4});
    CHECK(world.read(1).settled == std::vector<std::uint32_t>{1, 3});
}

TEST_CASE("spool/settler: records behind a hole that the cursor jumped over are not sent again") {
    const test::LogCapture log;
    World world(2);
    world.clock.advance(seconds{2});
    world.push(2);
    world.run(milliseconds{10});
    world.settle({3});
    REQUIRE(world.store.damage(kDefaultLane, 1));
    const auto batch = world.read(1);
    CHECK(batch.lost == 2);
    CHECK(batch.first_seq == 3);
    CHECK(batch.settled == std::vector<std::uint32_t>{0});
    CHECK(world.stored().next_settle == 4);
    CHECK(world.ledger().storage.dropped[index_of(DropReason::corrupt)] == 2);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE(
    "spool/settler: an ack that the disk refuses is kept and written later, dead letters too") {
    World world(4);
    world.store.fail_next(StoreCall::ack, Errc::spool_full, 2);
    world.settle({1}, {2});
    CHECK(world.stored().next_settle == 1);
    CHECK(world.store.dead_letters().empty());
    CHECK(world.ledger().imbalance() == 0);
    world.settle({3});  // refused too
    REQUIRE(world.settler.flush_idle().has_value());
    CHECK(world.stored().next_settle == 4);
    REQUIRE(world.store.dead_letters().size() == 1);
    CHECK(world.store.dead_letters()[0].seq == 2);
    CHECK(world.ledger().storage.dead == 1);
}

TEST_CASE("spool/settler: one lane's refused ack does not keep the others' acks from the disk") {
    constexpr LaneId kOther{1};
    asio::io_context io;
    test::MemStore store(1, {kDefaultLane, kOther});
    observe::StorageTotals totals;
    Settler settler(io.get_executor(), store, totals);
    settler.adopt(true);
    for (const auto lane : {kDefaultLane, kOther}) {
        Segment segment;
        segment.lane = lane;
        segment.payload = "{}\n";
        segment.count = 1;
        segment.ids = {{1, 1}};
        REQUIRE(store.commit({&segment, 1}, {}).has_value());
        settler.note_committed(lane, 1);
        store.fail_next(StoreCall::ack, Errc::spool_full);
        asio::co_spawn(io, settler.settle(lane, {{.seq = 1, .delivered = true, .dead = {}}}),
                       asio::detached);
        io.restart();
        io.poll();
    }
    store.fail_next(StoreCall::ack, Errc::spool_corrupt);  // the first lane's, again
    const auto flushed = settler.flush_idle();
    REQUIRE(flushed.has_error());
    CHECK(flushed.error().code == Errc::spool_corrupt);
    store.crash();
    CHECK(store.lanes()[0].next_settle == 1);
    CHECK(store.lanes()[1].next_settle == 2);
}

TEST_CASE("spool/settler: acks become durable with the next commit, or with the idle flush") {
    World world(3);
    world.settle({1});
    auto lost = world.store;
    lost.crash();
    CHECK(lost.lanes()[0].next_settle == 1);  // sent again: at least once
    REQUIRE(world.settler.flush_idle().has_value());
    auto kept = world.store;
    kept.crash();
    CHECK(kept.lanes()[0].next_settle == 2);
}

TEST_CASE("spool/settler: dead letters that are replayed come back at the end of the lane") {
    World world(3);
    world.settle({1, 3}, {2});
    std::uint64_t replayed = 0;
    asio::co_spawn(world.io, world.settler.replay(kDefaultLane, {2}),
                   [&replayed](const std::exception_ptr&, Result<std::uint64_t> result) {
                       replayed = *result;
                   });
    world.run();
    CHECK(replayed == 1);
    CHECK(world.store.dead_letters().empty());
    CHECK(world.stored().next_write == 5);
    CHECK(world.settler.spooled() == 1);
    CHECK(world.ledger().storage.replayed == 1);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler: a replay waits until its dead letters are written") {
    World world(2);
    world.store.fail_next(StoreCall::ack, Errc::spool_full, 2);
    world.settle({1}, {2});
    std::vector<bool> worked;
    const auto replay = [&] {
        asio::co_spawn(world.io, world.settler.replay(kDefaultLane, {2}),
                       [&worked](const std::exception_ptr&, Result<std::uint64_t> result) {
                           worked.push_back(result.has_value() && *result == 1);
                       });
        world.run();
    };
    replay();  // the second refusal
    replay();
    CHECK(worked == std::vector<bool>{false, true});
    CHECK(world.store.dead_letters().empty());
    CHECK(world.ledger().storage.replayed == 1);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler: a replay that failed, landed or not, is undone before the next commit") {
    const test::LogCapture log;
    for (const auto landed : {test::Landed::no, test::Landed::yes}) {
        CAPTURE(static_cast<int>(landed));
        World world(2);
        world.settle({1}, {2});
        world.store.fail_next(StoreCall::replay, Errc::spool_reopen, 1, landed);
        bool failed = false;
        asio::co_spawn(world.io, world.settler.replay(kDefaultLane, {2}),
                       [&failed](const std::exception_ptr&, Result<std::uint64_t> result) {
                           failed = !result.has_value();
                       });
        world.run();
        CHECK(failed);
        world.push(1);
        world.run(milliseconds{1000});
        CHECK(world.store.dead_letters().size() == 1);
        CHECK(world.stored().next_write == 4);
        CHECK(world.read(3).record(0) == "{\"n\":3}");
        CHECK(world.ledger().imbalance() == 0);
    }
}

TEST_CASE("spool/settler: a long hole at the front costs one step") {
    const test::LogCapture log;
    World world(8000);
    world.clock.advance(seconds{2});
    world.push(1);
    world.run(milliseconds{10});
    world.settle({2, 7999});
    REQUIRE(world.store.damage(kDefaultLane, 1));
    CHECK(world.read(1).lost == 8000);
    CHECK(world.ledger().storage.dropped[index_of(DropReason::corrupt)] == 7998);
    CHECK(world.stored().next_settle == 8001);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler: what is dropped is settled, but not what somebody is sending") {
    World world(20);
    world.settle({3, 8});
    std::optional<Settler::Dropped> dropped;
    const auto drop = [&world, &dropped](Seq end, std::vector<Seq> kept) {
        asio::co_spawn(
            world.io, world.settler.drop(kDefaultLane, end, std::move(kept), DropReason::oldest),
            [&dropped](const std::exception_ptr&, Settler::Dropped result) { dropped = result; });
        world.run();
        REQUIRE(dropped.has_value());
    };
    drop(11, {2, 5});
    CHECK(dropped->records == 6);  // 1, 4, 6, 7, 9, 10
    CHECK(dropped->persisted);
    CHECK(world.stored().next_settle == 2);
    CHECK(world.stored().ahead == std::vector<Seq>{3, 4, 6, 7, 8, 9, 10});
    CHECK(world.settler.spooled() == 12);
    world.settle({2}, {5});
    CHECK(world.stored().next_settle == 11);

    world.store.fail_next(StoreCall::ack, Errc::spool_full);
    drop(1000, {});  // all there is
    CHECK(dropped->records == 10);
    CHECK_FALSE(dropped->persisted);
    CHECK(world.settler.flush_idle().has_value());
    CHECK(world.stored().next_settle == 21);
    CHECK(world.totals.dropped[index_of(DropReason::oldest)] == 16);
    CHECK(world.ledger().imbalance() == 0);
    drop(1000, {});
    CHECK(dropped->records == 0);
}

TEST_CASE("spool/settler: the oldest part is an eighth, and at least one") {
    World world(16);
    CHECK(world.settler.oldest_part(kDefaultLane) == 3);
    world.settler.drop_unread(kDefaultLane, 15, DropReason::oldest);
    CHECK(world.settler.oldest_part(kDefaultLane) == 16);
    world.settler.drop_unread(kDefaultLane, 17, DropReason::oldest);
    CHECK_FALSE(world.settler.oldest_part(kDefaultLane).has_value());
    CHECK_FALSE(world.settler.oldest_part(LaneId{9}).has_value());
}

}  // namespace opsrelay::spool
