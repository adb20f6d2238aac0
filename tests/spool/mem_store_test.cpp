#include "support/mem_store.h"

#include <doctest/doctest.h>

#include "samples.h"

namespace opsrelay::test {
namespace {

using spool::Segment;

void commit(MemStore& store, const Segment& segment) {
    REQUIRE(store.commit(std::span(&segment, 1), {}).has_value());
}

TEST_CASE("support/mem_store: a crash forgets acks that nothing made durable") {
    MemStore store;
    commit(store, make_segment("a", 3));
    REQUIRE(store.ack({kDefaultLane, 3, {}}).has_value());
    store.crash();
    CHECK(read_all(store) == names("a", 0, 3));

    REQUIRE(store.ack({kDefaultLane, 3, {}}).has_value());
    commit(store, make_segment("b", 1));  // its sync covers the ack
    store.crash();
    CHECK(read_all(store) == std::vector<std::string>{"a.2", "b.0"});
}

TEST_CASE("support/mem_store: a kill keeps what was written") {
    MemStore store;
    commit(store, make_segment("a", 3));
    REQUIRE(store.ack({kDefaultLane, 3, {}}).has_value());
    store.restart();
    CHECK(read_all(store) == names("a", 2, 3));
}

TEST_CASE("support/mem_store: a failed commit may be there after a crash, its retry is the same") {
    for (const auto landed : {Landed::no, Landed::yes}) {
        MemStore store;
        const auto segment = make_segment("a", 2);
        store.fail_next(StoreCall::commit, Errc::spool_reopen, 1, landed);
        CHECK(store.commit(std::span(&segment, 1), {}).error().code == Errc::spool_reopen);
        CHECK(store.commit(std::span(&segment, 1), {}).error().code == Errc::spool_reopen);
        CHECK(read_all(store).empty());
        auto other = store;
        other.crash();
        CHECK(read_all(other).size() == (landed == Landed::yes ? 2 : 0));

        REQUIRE(store.reopen().has_value());
        CHECK(read_all(store).empty());
        commit(store, segment);
        CHECK(read_all(store) == names("a", 0, 2));
        CHECK(ids_of(store).size() == 2);
        store.crash();
        CHECK(read_all(store) == names("a", 0, 2));
    }
}

TEST_CASE("support/mem_store: a damaged segment is lost, and only that one") {
    MemStore store;
    commit(store, make_segment("a", 2));
    commit(store, make_segment("b", 2));
    commit(store, make_segment("c", 2));
    CHECK(store.damage(kDefaultLane, 4));
    CHECK_FALSE(store.damage(kDefaultLane, 9));
    CHECK(read_all(store) == std::vector<std::string>{"a.0", "a.1", "?", "?", "c.0", "c.1"});
    CHECK(store.damage(kDefaultLane, 5));
    const auto batch = store.read(kDefaultLane, 3).value();
    CHECK(batch.size() == 0);
    CHECK(batch.first_seq == 7);
    CHECK(batch.lost == 4);
}

}  // namespace
}  // namespace opsrelay::test
