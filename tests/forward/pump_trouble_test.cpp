// Records that always fail, and storage that refuses.
#include "forward/pump.h"

#include <doctest/doctest.h>

#include "forward/dead_letter.h"
#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::accept;
using test::answer;
using test::event;
using World = test::PumpWorld;

}  // namespace

TEST_CASE("forward/pump: a stuck record that there is no room to defer holds nobody up") {
    Options options;
    options.connections = 64;
    World world(options);
    world.store.set_deferred_limits({});
    bool healed = false;
    world.upstream.choose = [&healed](std::string_view body) -> std::optional<test::Step> {
        if (!healed && body == event(1)) return answer(500);
        return std::nullopt;
    };
    for (int i = 0; i < 40; ++i) world.commit(500);
    world.start();
    const auto idle = [&world] {  // as the storage thread does; MemStore keeps unsynced acks whole
        static_cast<void>(world.settler.flush_idle());
        world.run_for(milliseconds{100});
    };
    for (int i = 0; i < 600 && world.settler.spooled() > 1; ++i) idle();
    REQUIRE(world.settler.spooled() == 1);
    CHECK(world.upstream.rows().size() == 19'999);
    CHECK(world.pump.status().oldest_received_unix_ms.has_value());

    // A neighbour a minute keeps the lane going until the record is known to be stuck.
    for (int i = 0; i < 60; ++i) {
        world.commit(1);
        world.run_for(minutes{1});
    }
    CHECK(world.log.count("again and again") >= 1);
    const auto lines = world.log.count("lane state");
    const auto before = world.upstream.requests().size();
    for (int i = 0; i < 60; ++i) {
        world.commit(1);
        world.run_for(seconds{1});
        CHECK(world.settler.spooled() == 1);  // nobody waits for it
        world.run_for(seconds{59});
    }
    CHECK(world.log.count("lane state") == lines);
    CHECK(world.pump.status().state == LaneState::active);
    CHECK(world.upstream.rebuilds() == 0);
    const auto retries = world.upstream.requests().size() - before - 60;
    CHECK(retries > 60);  // 30 s apart on average
    CHECK(retries < 240);

    healed = true;
    CHECK(world.run_until_settled(minutes{2}));
    CHECK(world.upstream.rows().size() == world.written);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: a hundred stuck records among others, each failing in its own way") {
    Options options;
    options.in_flight_max = 64;  // fewer than there are stuck records
    World world(options);
    bool deferred = false;
    SUBCASE("deferred") { deferred = true; }
    SUBCASE("with room for a few") { world.store.set_deferred_limits({10, Bytes{1U << 20U}}); }
    SUBCASE("without room") { world.store.set_deferred_limits({}); }
    bool healed = false;
    const auto bad = [](std::string_view body) {
        for (std::uint64_t n = 1; n <= 100; ++n) {
            if (body == event(n * 20)) return n;
        }
        return std::uint64_t{0};
    };
    world.upstream.choose = [&](std::string_view body) -> std::optional<test::Step> {
        const auto n = healed ? 0 : bad(body);
        if (n == 0) return std::nullopt;
        if (n % 3 == 0) return answer(200, R"({"ok":false,"reason":"unheard_of"})");
        return n % 3 == 1 ? answer(500) : test::broken(Transport::reset);
    };
    for (int i = 0; i < 20; ++i) world.commit(100);
    world.start();
    CHECK(world.clock.run_until(
        world.io, [&] { return world.settler.spooled() == 100; }, world.clock.now() + hours{24}));
    world.run_for(hours{12});
    world.commit(500);
    CHECK(world.clock.run_until(
        world.io, [&] { return world.settler.spooled() == 100; }, world.clock.now() + minutes{3}));
    CHECK(world.store.deferred(kDefaultLane).size() <= (deferred ? 100 : 10));
    healed = true;
    if (deferred) world.pump.skip_wait();
    CHECK(world.run_until_settled(minutes{10} + (deferred ? hours{0} : hours{6})));
    CHECK(world.upstream.rows().size() == world.written);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: nothing is sent while more than in_flight_max ends are not stored") {
    Options options;
    options.in_flight_max = 100;
    World world(options);
    world.store.fail_next(test::StoreCall::ack, Errc::spool_full, 1'000);
    world.commit(5'000);
    world.start();
    world.run_for(minutes{10});
    const auto sent = world.upstream.requests().size();
    CHECK(sent > 100);
    CHECK(sent <= 100 + 2 * options.connections);
    CHECK(world.settler.spooled() == 5'000 - sent);
    CHECK(world.log.count("nothing is sent until it does") >= 1);
    CHECK(world.log.count("nothing is sent until it does") <= 11);
    CHECK(world.upstream.rebuilds() == 0);  // a slow disk is no stall of upstream
    CHECK(world.pump.status().state == LaneState::active);
    CHECK(world.run_until_settled(hours{1}));
    CHECK_FALSE(world.store.failures_pending());
    CHECK(world.upstream.requests().size() == 5'000);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: ends that are not stored are stored a second later without traffic") {
    World world;
    world.store.fail_next(test::StoreCall::ack, Errc::spool_io, 3);
    world.commit(1);
    world.start();
    world.run_for(milliseconds{1'500});
    CHECK(world.store.failures_pending());
    world.run_for(seconds{1});
    CHECK_FALSE(world.store.failures_pending());
    CHECK(world.store.lanes()[0].next_settle == 1);
    world.run_for(seconds{1});
    CHECK(world.store.lanes()[0].next_settle == 2);
    CHECK(world.clock.next_due().has_value());
    CHECK(*world.clock.next_due() - world.clock.now() > seconds{1});  // no further attempt
}

TEST_CASE("forward/pump: dead letters that cannot be put back are tried once a second at most") {
    World world;
    int requests = 0;
    world.upstream.choose = [&requests](std::string_view) -> std::optional<test::Step> {
        return ++requests <= 10 ? answer(400) : accept();
    };
    world.store.fail_next(test::StoreCall::replay, Errc::spool_io, 12);
    world.commit(10);
    world.start();
    world.run_for(seconds{1});
    REQUIRE(world.pump.status().state == LaneState::misconfigured);
    world.pump.set_key("other");  // sends again at once, so that there are ends all the time
    for (int i = 0; i < 80; ++i) {
        world.commit(1);
        world.run_for(milliseconds{100});
    }
    CHECK(world.store.failures_pending());
    CHECK(world.log.count("could not be put back") == 1);
    CHECK(world.settler.spooled() == 0);  // deliveries go on being settled
    world.run_for(minutes{15});
    CHECK_FALSE(world.store.failures_pending());
    CHECK(world.log.count("could not be put back") <= 15);
    CHECK(world.run_until_settled());
    CHECK(world.upstream.rows().size() == 90);
    CHECK(world.store.dead_letters().empty());
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: without room for dead letters the lane parks, and goes on with room") {
    World world({}, {.upstream_letters = 3});
    world.upstream.choose = [](std::string_view body) -> std::optional<test::Step> {
        for (std::uint64_t n = 100; n <= 1000; n += 100) {
            if (body == event(n)) return answer(422);
        }
        auto step = accept();
        step.latency = milliseconds{5};
        return step;
    };
    world.commit(1000);
    world.start();
    world.run_for(minutes{30});
    CHECK(world.pump.status().state == LaneState::dead_full);
    CHECK_FALSE(world.pump.status().retry_at.has_value());
    CHECK(world.pump.status().last_error == "HTTP 422");
    CHECK(world.log.count("opsrelay dead purge") == 1);
    CHECK(world.store.dead_letters().size() == 3);
    CHECK(world.settler.spooled() > 500);
    CHECK(world.balanced());
    const auto requests = world.upstream.requests().size();
    world.run_for(hours{2});
    CHECK(world.upstream.requests().size() == requests);  // it does not probe

    std::vector<spool::DeadKey> keys;
    for (const auto& letter : world.store.dead_letters()) keys.push_back(key_of(letter));
    CHECK(world.settler.purge_dead({keys.data(), 1}).value() == 1);
    CHECK(world.pump.status().state == LaneState::active);
    world.run_for(minutes{30});  // to the next one that finds no room
    CHECK(world.pump.status().state == LaneState::dead_full);
    CHECK(world.store.dead_letters().size() == 3);
    keys.clear();
    for (int i = 0; i < 10 && world.settler.spooled() > 0; ++i) {
        for (const auto& letter : world.store.dead_letters()) keys.push_back(key_of(letter));
        CHECK(world.settler.purge_dead(keys).has_value());
        world.run_for(minutes{1});
    }
    CHECK(world.settler.spooled() == 0);
    CHECK(world.upstream.rows().size() == 990);
    CHECK(world.totals.dead == 10);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: what is in flight does not go over the room for dead letters") {
    Options options;
    options.connections = 64;
    spool::DeadLimits limits{.upstream_letters = 20};
    std::uint64_t stored_max = limits.upstream_letters;
    SUBCASE("by number") {}
    SUBCASE("by size") {
        forward::Reply refusal;
        refusal.status = 422;
        const auto letter = make_dead_letter(event(1000), refusal, WallTime{});
        limits.upstream_letters = 1000;
        limits.upstream_bytes = Bytes{15 * stored_bytes(letter).count};
        stored_max = 16;  // most events have shorter ids
    }
    SUBCASE("by number, in batches") { options.kind = UpstreamKind::batch; }
    SUBCASE("while the store refuses acks") { stored_max = 0; }
    World world(options, limits);
    // All but every third: never ten in a row, and much at a time.
    world.upstream.choose = [n = 0](std::string_view) mutable -> std::optional<test::Step> {
        auto step = ++n % 3 == 0 ? accept() : answer(422);
        step.latency = milliseconds{50};
        return step;
    };
    world.commit(3'000);
    if (stored_max == 0) world.store.refuse_writes(Errc::spool_full);
    world.start();
    const auto within = [&world] {
        const auto usage = world.settler.dead_usage();
        CHECK(usage.letters <= usage.letters_max);
        CHECK(usage.bytes <= usage.bytes_max);
    };
    for (int i = 0; i < 2'000 && world.pump.status().state != LaneState::dead_full; ++i) {
        world.run_for(milliseconds{10});
        within();
    }
    CHECK(world.pump.status().state == LaneState::dead_full);
    CHECK(world.store.dead_letters().size() <= stored_max);
    CHECK(world.settler.dead_usage().letters >= 10);
    world.store.refuse_writes(std::nullopt);
    for (int i = 0; i < 3'000 && world.settler.spooled() > 0; ++i) {
        std::vector<spool::DeadKey> keys;
        for (const auto& letter : world.store.dead_letters()) keys.push_back(key_of(letter));
        CHECK(world.settler.purge_dead(keys).has_value());
        world.run_for(seconds{1});
        static_cast<void>(world.settler.flush_idle());
        within();
    }
    CHECK(world.settler.spooled() == 0);
    CHECK(world.totals.dead > 100);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: a letter larger than all the room there is has room alone") {
    World world({}, {.upstream_bytes = Bytes{10}});
    world.upstream.script({answer(400), accept(), answer(400)});
    world.commit(3);
    world.start();
    world.run_for(minutes{1});
    CHECK(world.store.dead_letters().size() == 1);
    CHECK(world.settler.spooled() == 1);
    CHECK(world.pump.status().state == LaneState::dead_full);
    const std::vector<spool::DeadKey> keys{key_of(world.store.dead_letters()[0])};
    CHECK(world.settler.purge_dead(keys).has_value());
    CHECK(world.run_until_settled());
}

TEST_CASE("forward/pump: room that is used up at the start parks the lane at the first refusal") {
    World world({}, {.upstream_letters = 0});
    world.upstream.script({answer(400)});
    world.commit(1);
    world.start();
    world.run_for(minutes{1});
    CHECK(world.pump.status().state == LaneState::dead_full);
    CHECK(world.store.dead_letters().empty());
    CHECK(world.settler.spooled() == 1);
    // A last try before the end sends it once more.
    CHECK(world.await(world.pump.drain_until(world.clock.now() + seconds{5})));
    CHECK(world.upstream.rows().size() == 1);
    CHECK(world.pump.status().state == LaneState::active);
}

}  // namespace opsrelay::forward
