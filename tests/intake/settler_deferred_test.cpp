// Deferred records through the settler: out of the queue, tried again, ended, given up; each is
// counted once.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <utility>

#include "intake/storage_world.h"
#include "spool/deferred.h"
#include "spool/settler.h"
#include "support/log_capture.h"

namespace opsrelay::spool {
namespace {

using test::StorageWorld;
using test::StoreCall;

constexpr std::int64_t kDue = 1'000;

struct World : StorageWorld {
    explicit World(std::uint32_t records) {
        start();
        push(records);
        run();
    }
    template <typename T>
    T await(asio::awaitable<T> work) {
        std::optional<T> result;
        asio::co_spawn(io, std::move(work), [&result](const std::exception_ptr&, T value) {
            result.emplace(std::move(value));
        });
        run();
        REQUIRE(result.has_value());
        return std::move(*result);
    }
    Settler::Settled settle(std::vector<Settlement> ends, std::optional<std::string> memo = {}) {
        for (const auto& end : ends) {
            if (!end.delivered && !end.later) REQUIRE(settler.take_dead_room(end.dead));
        }
        return await(settler.settle(kDefaultLane, std::move(ends), std::move(memo)));
    }
    static Settlement later(Seq seq, std::int64_t due, bool again = false) {
        DeferredRecord record;
        record.due_unix_ms = due;
        record.received_unix_ms = 500 + static_cast<std::int64_t>(seq);
        record.failures = 20;
        record.payload = fmt::format("event-{}", seq);
        Settlement end{.seq = seq, .delivered = false, .dead = {}};
        end.later = std::move(record);
        end.was_deferred = again;
        return end;
    }
    static Settlement ended(Seq seq, bool delivered = true) {
        Settlement end{.seq = seq, .delivered = delivered, .dead = {}};
        end.was_deferred = true;
        return end;
    }
    std::optional<DeferredRecord> take_due(std::int64_t now) {
        std::optional<Result<Settler::Due>> result;
        asio::co_spawn(io, settler.take_due(kDefaultLane, now),
                       [&result](const std::exception_ptr&, Result<Settler::Due> value) {
                           result.emplace(std::move(value));
                       });
        run();
        REQUIRE(result.has_value());
        return result->value().record;
    }
    [[nodiscard]] LaneState stored() const { return store.lanes()[0]; }
    [[nodiscard]] std::vector<Seq> deferred() const {
        std::vector<Seq> all;
        for (const auto& record : store.deferred(kDefaultLane)) all.push_back(record.seq);
        return all;
    }
    [[nodiscard]] std::uint64_t dropped(DropReason reason) const {
        return ledger().storage.dropped[index_of(reason)];
    }
};

TEST_CASE("spool/settler_deferred: a record waits apart from the queue and is counted once") {
    World world(4);
    const auto moved = world.settle({World::later(2, kDue), {.seq = 1, .dead = {}}});
    CHECK(moved.persisted);
    CHECK(moved.kept.empty());
    CHECK(moved.deferred.records == 1);
    CHECK(moved.deferred.next_due_unix_ms == kDue);
    CHECK(world.stored().next_settle == 3);
    CHECK(world.deferred() == std::vector<Seq>{2});
    CHECK(world.settler.spooled() == 3);
    CHECK(world.ledger().storage.delivered == 1);

    CHECK_FALSE(world.take_due(kDue - 1).has_value());
    const auto due = world.take_due(kDue);
    REQUIRE(due.has_value());
    CHECK(due->seq == 2);
    CHECK(due->payload == "event-2");
    CHECK(world.settle({World::later(2, kDue + 60'000, true)}).deferred.records == 1);
    CHECK(world.store.deferred(kDefaultLane)[0].due_unix_ms == kDue + 60'000);

    CHECK(world.settle({World::ended(2)}).deferred.records == 0);
    CHECK(world.deferred().empty());
    CHECK(world.settler.spooled() == 2);
    CHECK(world.ledger().storage.delivered == 2);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: a dead letter ends it, under its number") {
    World world(2);
    std::ignore = world.settle({World::later(1, kDue)});
    std::ignore = world.settle({World::ended(1, false)});
    REQUIRE(world.store.dead_letters().size() == 1);
    CHECK(world.store.dead_letters()[0].seq == 1);
    CHECK(world.deferred().empty());
    CHECK(world.ledger().storage.dead == 1);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: without room a record stays in the queue") {
    World world(4);
    const auto size = deferred_bytes(*World::later(1, kDue).later);
    SUBCASE("too many") { world.store.set_deferred_limits({1, Bytes{1U << 20U}}); }
    SUBCASE("too large") { world.store.set_deferred_limits({100, size}); }
    CHECK(world.settle({World::later(1, kDue)}).kept.empty());
    const auto refused = world.settle({World::later(2, kDue), {.seq = 3, .dead = {}}});
    CHECK(refused.kept == std::vector<Seq>{2});
    CHECK(world.stored().next_settle == 2);
    CHECK(world.stored().ahead == std::vector<Seq>{3});
    CHECK(world.settler.spooled() == 3);
    // One that waits already may wait again.
    CHECK(world.settle({World::later(1, kDue + 1, true)}).kept.empty());
    CHECK(world.settle({World::ended(1)}).deferred.records == 0);
    CHECK(world.settle({World::later(2, kDue)}).kept.empty());
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: while the store refuses acks nothing more is deferred") {
    World world(3);
    world.store.fail_next(StoreCall::ack, Errc::spool_full);
    const auto first = world.settle({World::later(1, kDue)});
    CHECK_FALSE(first.persisted);
    CHECK(first.kept.empty());
    CHECK(world.deferred().empty());
    CHECK(world.take_due(kDue).value().payload == "event-1");  // from memory
    world.store.fail_next(StoreCall::ack, Errc::spool_full);
    CHECK(world.settle({World::later(2, kDue)}).kept == std::vector<Seq>{2});
    REQUIRE(world.settler.flush_idle().has_value());
    CHECK(world.deferred() == std::vector<Seq>{1});
    CHECK(world.stored().next_settle == 2);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: a reopen that loses what was not synced loses no record") {
    World world(4);
    std::ignore = world.settle({World::later(1, kDue), World::later(2, kDue)});
    REQUIRE(world.settler.flush_idle().has_value());
    std::ignore =
        world.settle({World::ended(1), World::later(2, kDue + 5, true), World::later(3, kDue)});
    world.store.crash();  // as far as the store can tell
    CHECK(world.deferred() == std::vector<Seq>{1, 2});
    world.settler.adopt(false);
    REQUIRE(world.settler.flush_idle().has_value());
    CHECK(world.deferred() == std::vector<Seq>{2, 3});
    CHECK(world.store.deferred(kDefaultLane)[0].due_unix_ms == kDue + 5);
    CHECK(world.stored().next_settle == 4);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: a restart counts them as recovered and goes on with them") {
    World world(3);
    std::ignore = world.settle({World::later(1, kDue), {.seq = 2, .dead = {}}});
    world.store.restart();
    observe::StorageTotals totals;
    Settler next(world.io.get_executor(), world.store, totals);
    next.adopt(true);
    CHECK(totals.recovered == 2);
    CHECK(next.spooled() == 2);
    CHECK(next.start_of(kDefaultLane).first == 3);
    CHECK(next.start_of(kDefaultLane).deferred.records == 1);
}

TEST_CASE("spool/settler_deferred: where damage brought its place back, a record counts once") {
    World world(3);
    DeferredRecord record = *World::later(2, kDue).later;
    record.seq = 2;
    REQUIRE(
        world.store.ack({.lane = kDefaultLane, .next = 1, .deferred = {&record, 1}}).has_value());
    world.store.restart();
    observe::StorageTotals totals;
    Settler next(world.io.get_executor(), world.store, totals);
    next.adopt(true);
    CHECK(totals.recovered == 3);
    REQUIRE(next.flush_idle().has_value());
    CHECK(world.stored().ahead == std::vector<Seq>{2});
}

TEST_CASE("spool/settler_deferred: one that cannot be read is counted as lost") {
    const test::LogCapture log;
    World world(2);
    std::ignore = world.settle({World::later(1, kDue), World::later(2, kDue + 1)});
    REQUIRE(world.store.damage_deferred(kDefaultLane, 1));
    CHECK(world.take_due(kDue + 1).value().seq == 2);
    CHECK(world.dropped(DropReason::corrupt) == 1);
    CHECK(world.deferred() == std::vector<Seq>{2});
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: the oldest and the expired are given up, not what is sent") {
    World world(5);
    std::ignore =
        world.settle({World::later(1, kDue), World::later(2, kDue + 1), World::later(4, kDue + 2)});
    CHECK(world.take_due(kDue).value().seq == 1);
    const auto dropped = world.await(world.settler.drop(kDefaultLane, 4, {}, DropReason::oldest));
    CHECK(dropped.records == 2);  // 2 and 3
    CHECK(dropped.deferred.records == 2);
    CHECK(world.deferred() == std::vector<Seq>{1, 4});
    // Received in the order of their numbers.
    CHECK(world.await(world.settler.expire_deferred(kDefaultLane, 505, {})).records == 1);
    CHECK(world.deferred() == std::vector<Seq>{1});
    CHECK(world.await(world.settler.expire_deferred(kDefaultLane, 505, 4)).records == 0);
    CHECK(world.await(world.settler.expire_deferred(kDefaultLane, 505, 1)).records == 1);
    CHECK(world.deferred().empty());
    CHECK(world.dropped(DropReason::oldest) == 2);
    CHECK(world.dropped(DropReason::expired) == 2);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: a purge of the lane ends them too") {
    World world(3);
    std::ignore = world.settle({World::later(1, kDue)});
    CHECK(world.settler.purge_lane(kDefaultLane).value() == 3);
    CHECK(world.deferred().empty());
    CHECK(world.settler.spooled() == 0);
    CHECK(world.dropped(DropReason::purged) == 3);
    // Whoever had it in hand says so in vain.
    std::ignore = world.settle({World::ended(1)});
    std::ignore = world.settle({World::later(1, kDue, true)});
    CHECK(world.deferred().empty());
    CHECK(world.ledger().storage.delivered == 0);
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/settler_deferred: hastened records are due at once, and stay so until tried") {
    World world(2);
    std::ignore = world.settle({World::later(1, kDue + 1000), World::later(2, kDue + 2000)});
    const auto left = [&](Seq end) {
        const auto below = world.settler.left_below(kDefaultLane, end);
        return std::pair{below.records, below.resting};
    };
    CHECK(left(3) == std::pair<std::uint64_t, std::uint64_t>{2, 2});
    CHECK(world.await(world.settler.hasten(kDefaultLane, kDue)).next_due_unix_ms == kDue);
    CHECK(left(3) == std::pair<std::uint64_t, std::uint64_t>{2, 0});
    CHECK(left(2) == std::pair<std::uint64_t, std::uint64_t>{1, 0});
    CHECK(world.take_due(kDue).value().seq == 1);
    CHECK(left(3) == std::pair<std::uint64_t, std::uint64_t>{2, 0});  // not yet back
    std::ignore = world.settle({World::later(1, kDue + 3000, true)});
    CHECK(left(3) == std::pair<std::uint64_t, std::uint64_t>{2, 1});
    CHECK(world.take_due(kDue).value().seq == 2);
    std::ignore = world.settle({World::ended(2)});
    CHECK(left(3) == std::pair<std::uint64_t, std::uint64_t>{1, 1});
}

TEST_CASE("spool/settler: a memo is written with the ends, once, and found after a restart") {
    World world(2);
    std::ignore = world.settle({{.seq = 1, .dead = {}}}, "plan");
    CHECK(world.stored().memo == "plan");
    const auto acks = world.store.acks();
    std::ignore = world.settle({}, "plan");
    CHECK(world.store.acks() == acks);  // nothing new
    std::ignore = world.settle({}, "other");
    CHECK(world.stored().memo == "other");
    world.store.crash();  // not synced
    world.settler.adopt(false);
    REQUIRE(world.settler.flush_idle().has_value());
    CHECK(world.stored().memo == "other");
    CHECK(world.settler.start_of(kDefaultLane).memo == "other");
}

}  // namespace
}  // namespace opsrelay::spool
