// Records that upstream alone fails on: out of the queue, tried ever more rarely, ended.
#include <doctest/doctest.h>

#include <algorithm>

#include "forward/plan_memo.h"
#include "forward/pump.h"
#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::accept;
using test::answer;
using test::event;

constexpr std::uint64_t kPoison = 3;

/// A lane whose third event fails until `reply` says otherwise, while others pass.
struct World : test::PumpWorld {
    explicit World(Options options = {}) : PumpWorld(std::move(options)) {
        upstream.choose = [this](std::string_view body) -> std::optional<test::Step> {
            if (body == event(kPoison)) return reply;
            return std::nullopt;
        };
    }
    /// A neighbour every half minute, until the record has left the queue.
    void defer() {
        commit(5);
        start();
        for (int i = 0; i < 100 && store.deferred(kDefaultLane).empty(); ++i) {
            run_for(seconds{30});
            commit(1);
            static_cast<void>(settler.flush_idle());
        }
        REQUIRE(store.deferred(kDefaultLane).size() == 1);
        run_for(seconds{1});
    }
    [[nodiscard]] std::size_t tries() const {
        const auto& all = upstream.requests();
        return static_cast<std::size_t>(std::count(all.begin(), all.end(), event(kPoison)));
    }
    [[nodiscard]] spool::DeferredRecord deferred() const {
        const auto all = store.deferred(kDefaultLane);
        REQUIRE(all.size() == 1);
        return all[0];
    }
    [[nodiscard]] milliseconds due_in() const {
        return milliseconds{deferred().due_unix_ms - unix_ms(clock.wall_now())};
    }

    test::Step reply = answer(500);
};

}  // namespace

TEST_CASE("forward/pump_defer: after 20 failures beside others that pass it leaves the queue") {
    World world;
    world.defer();
    CHECK(world.tries() >= kStuckFailures);
    CHECK(world.deferred().seq == kPoison);
    CHECK(world.deferred().payload == event(kPoison));
    CHECK(world.deferred().failures == kStuckFailures);
    CHECK(world.due_in() <= minutes{1});
    const auto lane = world.store.lanes()[0];
    CHECK(lane.next_settle == lane.next_write);  // nobody waits for it
    CHECK(lane.spooled() == 1);
    CHECK(world.settler.spooled() == 1);
    CHECK(world.log.count("it is deferred") == 1);
    CHECK(world.log.count("deferred_events=1") == 1);
    CHECK(world.pump.status().state == LaneState::active);
    CHECK_FALSE(world.pump.all_settled());
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_defer: each attempt that fails doubles the wait, up to 6 h") {
    World world;
    world.defer();
    milliseconds limit = minutes{1};
    for (int i = 0; i < 14; ++i) {
        const auto before = world.tries();
        CHECK(world.due_in() <= limit);
        world.run_for(world.due_in() - seconds{1});
        CHECK(world.tries() == before);
        world.commit(1);
        world.run_for(seconds{4});
        CHECK(world.tries() == before + 1);
        limit = std::min<milliseconds>(limit * 2, hours{6});
        CHECK(world.due_in() > limit / 2 - seconds{4});
    }
    CHECK(world.deferred().failures == kStuckFailures + 14);
    CHECK(world.settler.spooled() == 1);
    world.reply = accept();
    CHECK(world.run_until_settled(hours{6}));
    CHECK(world.upstream.rows().size() == world.written);
    CHECK(world.store.deferred(kDefaultLane).empty());
    world.run_for(seconds{1});
    CHECK(world.pump.all_settled());
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_defer: a refusal ends it as a dead letter, once") {
    World world;
    world.defer();
    world.reply = answer(422, "no");
    CHECK(world.run_until_settled(minutes{2}));
    REQUIRE(world.store.dead_letters().size() == 1);
    CHECK(world.store.dead_letters()[0].seq == kPoison);
    CHECK(world.store.dead_letters()[0].payload == event(kPoison));
    CHECK(world.totals.dead == 1);
    CHECK(world.store.deferred(kDefaultLane).empty());
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_defer: a new process goes on with it when it is due") {
    World world;
    world.defer();
    const auto due = world.deferred().due_unix_ms;
    world.stop(seconds{0});
    test::PumpWorld next;
    next.store = world.store;
    next.store.restart();
    next.settler.adopt(true);
    CHECK(next.totals.recovered == 1);
    next.clock.jump_wall(milliseconds{due - unix_ms(next.clock.wall_now()) - 20'000});
    next.start();
    next.run_for(seconds{19});
    CHECK(next.upstream.requests().empty());
    next.run_for(seconds{2});
    CHECK(next.upstream.rows().count(event(kPoison)) == 1);
    CHECK(next.settler.spooled() == 0);
    CHECK(next.balanced());
}

TEST_CASE(
    "forward/pump_defer: while the lane waits it is not sent, unless nothing else can probe") {
    World world;
    world.defer();
    auto wait = test::retry_after(429, "600");
    world.upstream.script({wait});
    world.commit(1);
    world.run_for(seconds{1});
    REQUIRE(world.pump.status().state == LaneState::throttled);
    const auto before = world.tries();
    world.run_for(minutes{9});  // it is due long since
    CHECK(world.tries() == before);
    world.run_for(minutes{2});
    CHECK(world.pump.status().state == LaneState::active);  // the other one probed
    CHECK(world.tries() == before + 1);

    world.upstream.script({wait});
    world.commit(1);
    world.run_for(seconds{1});
    REQUIRE(world.pump.status().state == LaneState::throttled);
    world.reply = accept();
    CHECK(world.run_until_settled(hours{1}));
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_defer: an idle lane tries it all the same, within the breaker") {
    World world;
    world.defer();
    world.pump.set_key({});
    world.pump.set_key("other");  // nothing was delivered with it yet
    const auto before = world.tries();
    world.run_for(hours{24});
    CHECK(world.tries() > before + 8);  // minutes at first, hours at last
    CHECK(world.tries() < before + 24);
    world.reply = accept();
    CHECK(world.run_until_settled(hours{7}));
    CHECK(world.pump.status().state == LaneState::active);
}

TEST_CASE("forward/pump_defer: in a lane of batches it is sent by itself") {
    Options options;
    options.kind = UpstreamKind::batch;
    options.batch.linger = milliseconds{100};
    World world(options);
    world.defer();
    world.reply = accept();
    world.commit(3);
    CHECK(world.run_until_settled(minutes{2}));
    const auto& batches = world.upstream.batches();
    const std::vector<std::string> alone{event(kPoison)};
    CHECK(std::count(batches.begin(), batches.end(), alone) >= 1);
    CHECK(world.upstream.rows().size() == world.written);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_defer: a flush tries it now, once; so does a drain, which does not wait") {
    World world;
    world.defer();
    for (int i = 0; i < 6; ++i) {  // hours from now
        world.run_for(world.due_in() + seconds{3});
    }
    REQUIRE(world.due_in() > minutes{20});
    auto before = world.tries();
    world.pump.skip_wait();
    world.run_for(seconds{2});
    CHECK(world.tries() == before + 1);
    REQUIRE(world.due_in() > minutes{20});
    before = world.tries();
    const auto began = world.clock.now();
    CHECK_FALSE(world.await(world.pump.drain_until(began + seconds{20})));
    CHECK(world.clock.now() - began < seconds{5});
    CHECK(world.tries() == before + 1);
    world.reply = accept();
    CHECK(world.await(world.pump.drain_until(world.clock.now() + seconds{20})));
    CHECK(world.settler.spooled() == 0);
}

TEST_CASE("forward/pump_defer: spool.max_age and drop_oldest end it") {
    World world;
    world.defer();
    SUBCASE("max_age") {
        world.pump.set_max_age(hours{2});
        world.run_for(hours{3});
        CHECK(world.totals.dropped[index_of(DropReason::expired)] == 1);
    }
    SUBCASE("max_age, with the record in hand") {
        world.pump.set_max_age(hours{2});
        world.pump.set_paused(true);
        world.run_for(hours{3});
        CHECK(world.totals.dropped[index_of(DropReason::expired)] == 1);
    }
    SUBCASE("drop_oldest") {
        world.pump.set_paused(true);
        world.commit(10);
        world.pump.drop_below(world.settler.end(kDefaultLane), DropReason::oldest);
        world.run_for(seconds{1});
        CHECK(world.totals.dropped[index_of(DropReason::oldest)] == 11);
    }
    world.pump.set_paused(false);
    CHECK(world.store.deferred(kDefaultLane).empty());
    CHECK(world.settler.spooled() == 0);
    const auto before = world.tries();
    world.run_for(hours{7});
    CHECK(world.tries() == before);
}

TEST_CASE("forward/pump_defer: until upstream took something the others go first") {
    World world;
    world.defer();
    world.pump.set_key({});
    world.commit(2);
    world.run_for(world.due_in() + seconds{1});
    const auto before = world.tries();
    world.reply = test::retry_after(503, "3600");
    world.pump.set_key("other");
    world.run_for(seconds{2});
    CHECK(world.tries() == before + 1);
    CHECK(world.pump.status().state == LaneState::active);  // it is the event's own matter
    CHECK(world.settler.spooled() == 1);
    CHECK(world.due_in() > minutes{59});
}

TEST_CASE("forward/pump_defer: a flush does not wait out the time between two of them") {
    World world;
    constexpr std::uint64_t kOther = kPoison + 1;
    world.upstream.choose = [&world](std::string_view body) -> std::optional<test::Step> {
        if (body == event(kPoison) || body == event(kOther)) return world.reply;
        return std::nullopt;
    };
    world.commit(5);
    world.start();
    for (int i = 0; i < 200 && world.store.deferred(kDefaultLane).size() < 2; ++i) {
        world.run_for(seconds{30});
        world.commit(1);
        static_cast<void>(world.settler.flush_idle());
    }
    REQUIRE(world.store.deferred(kDefaultLane).size() == 2);
    const auto tries = [&world] {
        const auto& all = world.upstream.requests();
        return world.tries() +
               static_cast<std::size_t>(std::count(all.begin(), all.end(), event(kOther)));
    };
    world.clock.jump_wall(hours{1});  // both are due
    const auto before = tries();
    for (int i = 0; i < 7000 && tries() == before; ++i) world.run_for(milliseconds{10});
    REQUIRE(tries() == before + 1);
    world.pump.skip_wait();
    world.run_for(milliseconds{10});
    CHECK(tries() > before + 1);
}

TEST_CASE("forward/pump_defer: a drain keeps asking storage that cannot read it, with pauses") {
    World world;
    world.defer();
    world.store.fail_next(test::StoreCall::read_deferred, Errc::spool_io, 1000);
    const auto deadline = world.clock.now() + seconds{20};
    CHECK_FALSE(world.await(world.pump.drain_until(deadline)));
    CHECK(world.store.failures_pending());
    CHECK(world.clock.now() == deadline);
    CHECK(world.settler.spooled() == 1);
}

TEST_CASE("forward/pump_defer: storage that cannot read it is asked again") {
    World world;
    world.defer();
    world.store.fail_next(test::StoreCall::read_deferred, Errc::spool_io, 5);
    world.reply = accept();
    CHECK(world.run_until_settled(minutes{10}));
    CHECK_FALSE(world.store.failures_pending());
    CHECK(world.balanced());
}

TEST_CASE("forward/pump_defer: a cut-off attempt loses nothing") {
    World world;
    world.defer();
    world.reply = test::hang();
    world.run_for(world.due_in() + seconds{2});
    CHECK(world.upstream.in_flight() == 1);
    world.stop(seconds{0});
    CHECK(world.store.deferred(kDefaultLane).size() == 1);
    CHECK(world.settler.spooled() == 1);
    CHECK(world.balanced());
}

TEST_CASE("forward/plan_memo: what upstream said last is known to the next process") {
    World world;
    world.upstream.script({answer(200, R"({"ok":true,"planTier":"Pro","budgetWarning":true})")});
    world.commit(1);
    world.start();
    REQUIRE(world.run_until_settled(seconds{5}));
    const PlanFields expected{.plan_tier = "Pro", .budget_warning = true};
    CHECK(world.plan.get() == expected);
    CHECK(decode_plan(world.store.lanes()[0].memo) == expected);
    world.upstream.script({answer(402, R"({"ok":false,"reason":"budget_exceeded"})")});
    world.commit(1);
    world.run_for(seconds{1});
    CHECK(decode_plan(world.store.lanes()[0].memo)->budget_exceeded);  // without an outcome, too
    world.stop(seconds{0});

    test::PumpWorld next;
    next.store = world.store;
    next.store.restart();
    next.settler.adopt(true);
    next.start();
    CHECK(next.plan.get().plan_tier == "Pro");
    CHECK(next.plan.get().budget_exceeded);
}

TEST_CASE("forward/plan_memo: every field survives, what is not ours is ignored") {
    for (unsigned bits = 0; bits < 16; ++bits) {
        CAPTURE(bits);
        PlanFields fields;
        fields.plan_tier = bits % 2 == 0 ? "Team" : "";
        fields.telemetry_paused = (bits & 1U) != 0;
        fields.plan_limit_reached = (bits & 2U) != 0;
        fields.budget_warning = (bits & 4U) != 0;
        fields.budget_exceeded = (bits & 8U) != 0;
        CHECK(decode_plan(encode_plan(fields)) == fields);
    }
    CHECK_FALSE(decode_plan("").has_value());
    CHECK_FALSE(decode_plan("\x01").has_value());
    CHECK_FALSE(decode_plan("\x02\x01Pro").has_value());
}

}  // namespace opsrelay::forward
