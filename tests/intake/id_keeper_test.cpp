#include "spool/id_keeper.h"

#include <doctest/doctest.h>

#include "intake/storage_world.h"
#include "support/log_capture.h"

namespace opsrelay::spool {

using test::Landed;
using test::LogCapture;
using test::StorageWorld;
using test::StoreCall;

namespace {

// A generation takes 10 minutes or 100 ids; a seal 16 ids.
Options small() {
    Options options;
    options.ids.window = hours{2};
    options.ids.ids_max = 1200;
    options.ids.seal_ids = 16;
    return options;
}

std::uint64_t steps(StorageWorld& world, IdStep step) {
    return world.registry.counter(observe::kDedupeRuns, to_string(step)).value();
}
std::uint64_t lookups(StorageWorld& world, IdLookup result) {
    return world.registry.counter(observe::kDedupeLookups, to_string(result)).value();
}

bool in_a_filter(const StorageWorld& world, Position position) {
    const IdHash id{position, position};
    return std::any_of(world.view.filters.begin(), world.view.filters.end(),
                       [&id](const auto& filter) { return filter->may_contain(id); });
}

std::size_t remembered(StorageWorld& world) {
    std::vector<IdHash> ids;
    for (Position n = 1; n <= world.handed; ++n) ids.push_back({n, n});
    const auto found = world.store.find_ids(ids);
    return static_cast<std::size_t>(std::count(found.begin(), found.end(), true));
}

void start(StorageWorld& world) {
    world.start();
    world.start_ids();
}

/// Ids up to `last` once more, which a filter knows: as the next positions.
void push_repeats(StorageWorld& world, Position last, std::uint32_t count) {
    spool::Burst burst;
    for (std::uint32_t i = 0; i < count; ++i) {
        const Position id = i % last + 1;
        burst.segment.payload += "again\n";
        burst.segment.ids.push_back({id, id});
        burst.segment.maybe.push_back({i, ++world.handed, false, {}});
    }
    burst.segment.received_unix_ms = unix_ms(world.clock.wall_now());
    burst.segment.count = count;
    burst.last = world.handed;
    burst.totals.received = world.handed;
    if (world.queue.push(burst)) world.committer.wake();
}

}  // namespace

TEST_CASE("spool/id_keeper: durable ids become a run when there are enough, or after a while") {
    StorageWorld world(small());
    start(world);
    CHECK_FALSE(world.view.covered);
    world.push(15);
    world.run(milliseconds{10});
    CHECK(world.view.filters.empty());
    CHECK(world.ids.ids() == 15);
    world.push(1);
    world.run(milliseconds{10});
    REQUIRE(world.view.filters.size() == 1);
    CHECK(world.view.covered == 16);
    CHECK(remembered(world) == 16);
    CHECK(test::MemStore(world.store).id_runs().size() == 1);
    world.push(2);
    world.run(minutes{4});  // a 24th of the window is 5 minutes
    CHECK(world.view.covered == 16);
    world.run(minutes{2});
    CHECK(world.view.covered == 18);
    CHECK(in_a_filter(world, 18));
    CHECK(world.ids.ids() == 18);
    CHECK(steps(world, IdStep::sealed) == 2);
}

TEST_CASE("spool/id_keeper: repeats that the disk knows do not stay in the tables of ingest") {
    StorageWorld world(small());
    start(world);
    world.push(16);
    world.run(milliseconds{10});
    push_repeats(world, 16, 15);
    world.run(milliseconds{10});
    CHECK(world.view.covered == 16);
    push_repeats(world, 16, 1);
    world.run(milliseconds{10});
    CHECK(world.view.covered == 32);
    CHECK(world.store.id_runs().size() == 1);
    SUBCASE("among them an id that is in no run") {
        world.push(1);
        world.run(milliseconds{10});
        CHECK(world.view.covered == 32);
        push_repeats(world, 16, 15);
        world.run(milliseconds{10});
        CHECK(world.view.covered == 48);
        CHECK(in_a_filter(world, 33));
        CHECK(world.store.id_runs().size() == 2);
    }
    SUBCASE("while no run can be made: commits wait") {
        const LogCapture log;
        world.store.fail_next(StoreCall::make_run, Errc::spool_full, 20);
        world.push(1);
        for (int i = 0; i < 10; ++i) {
            push_repeats(world, 16, 16);
            world.run(milliseconds{100});
        }
        CHECK_FALSE(world.ids.has_room());
        CHECK(world.settled.back() == 32 + 1 + 64);
        world.run(minutes{1});
        CHECK(world.settled.back() == world.handed);
        CHECK(world.ids.has_room());
    }
}

TEST_CASE("spool/id_keeper: a closed generation becomes one run") {
    StorageWorld world(small());
    start(world);
    for (int i = 0; i < 9; ++i) {
        world.push(16);
        world.run(seconds{1});
    }
    CHECK(steps(world, IdStep::merged) == 1);
    const auto runs = world.store.id_runs();
    REQUIRE(runs.size() == 3);
    CHECK(runs[0].info.ids == 112);  // seven seals reach 100
    CHECK(remembered(world) == 144);
    CHECK(world.view.filters.size() == 3);
}

TEST_CASE("spool/id_keeper: ids are forgotten a generation at a time once the window is over") {
    StorageWorld world(small());
    start(world);
    world.push(20);
    world.run(hours{1});
    world.push(20);
    world.run(hours{1} - minutes{1});
    CHECK(remembered(world) == 40);
    CHECK(world.ids.window() >= hours{1});
    world.run(minutes{12});
    CHECK(remembered(world) == 20);
    CHECK(world.ids.ids() == 20);
    CHECK(world.ids.window() <= hours{1} + minutes{15});
    world.run(hours{2});
    CHECK(remembered(world) == 0);
    CHECK(world.ids.window() == milliseconds{0});
    CHECK(world.view.filters.empty());
    CHECK(steps(world, IdStep::expired) == 2);
}

TEST_CASE(
    "spool/id_keeper: what waits behind a refused commit is still known when it is looked up") {
    StorageWorld world(small());
    start(world);
    world.push(20);
    world.run(minutes{110});
    constexpr std::uint32_t kTries = 4 * 60 * 30;  // half an hour
    world.store.fail_next(StoreCall::commit, Errc::spool_full, kTries);
    world.push(1);
    world.run(minutes{29});
    CHECK(remembered(world) == 20);
    CHECK(steps(world, IdStep::expired) == 0);
    world.run(minutes{4});
    CHECK(remembered(world) == 1);  // the one that waited
    CHECK(world.ids.ids() == 1);
    CHECK(steps(world, IdStep::expired) == 1);
}

TEST_CASE("spool/id_keeper: the newest ids_max are remembered, and little more") {
    StorageWorld world(small());
    start(world);
    for (int i = 0; i < 400; ++i) {
        world.push(16);
        world.run(milliseconds{100});
        if (world.handed >= 1200) REQUIRE(world.ids.ids() >= 1200);
        REQUIRE(world.ids.ids() <= 1200 + 250);
    }
    for (auto n = world.handed - 1200 + 16; n <= world.handed; ++n) REQUIRE(in_a_filter(world, n));
}

TEST_CASE("spool/id_keeper: steps of the wall clock forget nothing and keep nothing for ever") {
    for (const auto jump : {hours{48}, hours{-48}, hours{24 * 365 * 60}}) {
        CAPTURE(jump.count());
        StorageWorld world(small());
        start(world);
        world.push(20);
        world.run(minutes{10});
        world.clock.jump_wall(jump);
        world.push(20);
        world.run(minutes{100});
        CHECK(remembered(world) == 40);
        world.run(minutes{40});
        CHECK(remembered(world) == 0);
    }
}

TEST_CASE("spool/id_keeper: after a start the clock of the ids goes on where it was") {
    StorageWorld world(small());
    start(world);
    world.push(20);
    world.run(minutes{50});
    world.push(3);
    world.run(seconds{1});
    const auto before = world.ids.now_ms();
    for (const auto jump : {hours{-30}, hours{30}}) {
        world.clock.jump_wall(jump);
        IdKeeper again({world.io.get_executor(), world.io.get_executor()}, world.clock, world.store,
                       world.options, world.registry, {[](IdView) {}, [] {}});
        std::vector<IdHash> sink;
        REQUIRE(again.recover([&sink](const IdHash& id) { sink.push_back(id); }));
        CHECK(again.now_ms() <= before);
        CHECK(again.now_ms() >= before - 1000);  // the last commit was a second ago
        CHECK(sink == std::vector<IdHash>{{21, 21}, {22, 22}, {23, 23}});
        CHECK(again.ids() == 23);
        CHECK(again.window() >= minutes{49});
    }
}

TEST_CASE("spool/id_keeper: while no run can be made, ids are bounded and commits wait") {
    for (const auto call : {StoreCall::make_run, StoreCall::adopt_run}) {
        CAPTURE(static_cast<int>(call));
        const LogCapture log;
        StorageWorld world(small());
        start(world);
        world.store.fail_next(call, Errc::spool_full, 20);
        for (int i = 0; i < 10; ++i) {
            world.push(16);
            world.run(milliseconds{100});
        }
        CHECK_FALSE(world.ids.has_room());
        CHECK(world.ids.ids() == 64);  // four seals
        CHECK(world.settled.back() == 64);
        CHECK(world.ledger().pending == 96);
        CHECK(world.ledger().imbalance() == 0);
        CHECK(log.count("ids could not be moved") >= 1);
        world.run(minutes{1});
        CHECK(world.settled.back() == 160);
        CHECK(world.view.covered == 160);
        CHECK(remembered(world) == 160);
        CHECK(log.count("ids could not be moved") <= 4);
    }
}

TEST_CASE("spool/id_keeper: a stop commits what is queued though no run can be made") {
    const LogCapture log;
    StorageWorld world(small());
    start(world);
    world.store.fail_next(StoreCall::make_run, Errc::spool_full, 1000);
    for (int i = 0; i < 10; ++i) {
        world.push(16);
        world.run(milliseconds{100});
    }
    CHECK(world.settled.back() == 64);
    world.committer.request_stop(world.clock.now() + seconds{2});
    world.run(seconds{1});
    CHECK(world.settled.back() == 160);
}

TEST_CASE("spool/id_keeper: a run that was taken in although it failed does no harm") {
    const LogCapture log;
    StorageWorld world(small());
    start(world);
    world.store.fail_next(StoreCall::adopt_run, Errc::spool_reopen, 1, Landed::yes);
    world.push(16);
    world.run(milliseconds{100});
    CHECK_FALSE(world.view.covered);
    world.push(1);  // its commit has the store opened again
    world.run(seconds{5});
    CHECK(world.view.covered == 16);
    CHECK(remembered(world) == 16);
    CHECK(world.store.id_runs().size() == 1);
    CHECK(world.ids.ids() == 17);
}

TEST_CASE("spool/id_keeper: merges and expiry that fail are tried again") {
    const LogCapture log;
    StorageWorld world(small());
    start(world);
    for (int i = 0; i < 7; ++i) {
        world.push(16);
        world.run(milliseconds{100});
    }
    world.store.fail_next(StoreCall::drop_runs, Errc::spool_io, 3);
    world.push(16);
    world.run(milliseconds{1});
    world.store.fail_next(StoreCall::make_run, Errc::spool_io, 2);
    world.push(16);
    world.run(minutes{5});
    CHECK(remembered(world) == 144);
    CHECK(steps(world, IdStep::merged) == 1);
    world.run(hours{3});
    CHECK(remembered(world) == 0);
    CHECK_FALSE(world.store.failures_pending());
}

TEST_CASE("spool/committer: a maybe that is in a run is struck out, told, and counted once") {
    StorageWorld world(small());
    start(world);
    world.push(16);
    world.run(milliseconds{100});
    // The ids 1..16 come again, as positions 17 and 19 of three fresh ones.
    world.handed = 16;
    spool::Burst burst;
    burst.segment.received_unix_ms = unix_ms(world.clock.wall_now());
    burst.segment.payload = "one\ntwo\nthree\nfour\n";
    burst.segment.ids = {{5, 5}, {900, 900}, {6, 6}, {901, 901}};
    observe::LlmUsage usage;
    auto& series = usage.of({"p", "m", "", "success"});
    const observe::LlmCall call{&series, 3, 2};
    burst.segment.maybe = {{0, 17, true, call}, {1, 18, true, call}, {2, 19, false, call}};
    burst.segment.count = 4;
    burst.last = 20;
    burst.totals.received = 20;
    if (world.queue.push(burst)) world.committer.wake();
    CHECK(world.ledger().pending == 4);
    CHECK(world.ledger().imbalance() == 0);
    world.run(milliseconds{100});
    CHECK(world.struck == std::vector<Position>{17});  // 19 is not asked after
    CHECK(world.settled.back() == 20);
    const auto ledger = world.ledger();
    CHECK(ledger.storage.accepted == 18);
    CHECK(ledger.storage.duplicates == 2);
    CHECK(ledger.duplicates_by_kind()[index_of(DuplicateKind::unknown)] == 2);
    CHECK(ledger.imbalance() == 0);
    CHECK(lookups(world, IdLookup::found) == 2);
    CHECK(lookups(world, IdLookup::absent) == 1);
    CHECK(series.requests == 1);  // of the one that was none
    CHECK(series.input_tokens == 3);
    const auto batch = world.store.read(kDefaultLane, 17).value();
    CHECK(batch.payload == "two\nfour\n");
}

TEST_CASE("spool/committer: a batch of nothing but duplicates is settled without a write") {
    StorageWorld world(small());
    start(world);
    world.push(16);
    world.run(milliseconds{100});
    const auto commits = world.store.commits();
    spool::Burst burst;
    burst.segment.payload = "one\n";
    burst.segment.ids = {{5, 5}};
    burst.segment.maybe = {{0, 17, true}};
    burst.segment.count = 1;
    burst.last = 17;
    burst.totals.received = 17;
    if (world.queue.push(burst)) world.committer.wake();
    world.run(milliseconds{100});
    CHECK(world.store.commits() == commits);
    CHECK(world.settled.back() == 17);
    CHECK(world.struck == std::vector<Position>{17});
    CHECK(world.ledger().imbalance() == 0);
}

TEST_CASE("spool/committer: the ids of a batch that was given up are in no run") {
    const LogCapture log;
    StorageWorld world(small());
    start(world);
    world.store.fail_next(StoreCall::commit, Errc::spool_full, 100'000);
    world.push(16);
    world.run(minutes{20});
    CHECK(world.ids.ids() == 0);
    CHECK(world.store.id_runs().empty());
    CHECK_FALSE(world.view.covered);
}

}  // namespace opsrelay::spool
