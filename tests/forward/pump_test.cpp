#include "forward/pump.h"

#include <doctest/doctest.h>

#include <optional>
#include <set>
#include <utility>

#include "forward/pump_world.h"

namespace opsrelay::forward {

namespace {

using test::accept;
using test::answer;
using test::event;
using World = test::PumpWorld;

}  // namespace

TEST_CASE("forward/pump: everything in the spool is delivered once, also what comes later") {
    World world;
    world.commit(100);
    world.start();
    CHECK(world.run_until_settled());
    world.commit(5000);
    world.commit(1);
    CHECK(world.run_until_settled());
    CHECK(world.upstream.rows().size() == 5101);
    CHECK(world.upstream.requests().size() == 5101);
    CHECK(world.upstream.in_flight_max() == 8);
    CHECK(world.upstream.key() == "key");
    CHECK(world.totals.delivered == 5101);
    CHECK(world.balanced());
    CHECK(world.registry.counter(observe::kUpstreamRequests, "default", "200").value() == 5101);
}

TEST_CASE("forward/pump: every row of the reply table ends as it should") {
    struct Case {
        const char* name;
        test::Step step;
        std::uint64_t dead;   // of the three events
        std::uint64_t sends;  // requests in all
        const char* retries;  // counted once under this reason; "": none
    };
    const Case cases[] = {
        {"200", accept(), 0, 3, ""},
        {"200 empty", answer(200), 0, 3, ""},
        {"200 HTML", answer(200, "<html>"), 0, 4, "not_the_api"},
        {"200 ok:false", answer(200, R"({"ok":false})"), 0, 4, "backoff"},
        {"409", answer(409), 0, 3, ""},
        {"400", answer(400, "no"), 1, 3, ""},
        {"422", answer(422), 1, 3, ""},
        {"413", answer(413), 1, 3, ""},
        {"401", answer(401), 0, 4, "unauthorized"},
        {"403", answer(403), 0, 4, "unauthorized"},
        {"402 plan", answer(402, R"({"reason":"plan_limit_reached"})"), 0, 4, "plan_limited"},
        {"402 budget", answer(402, R"({"reason":"x"})"), 0, 4, "budget_stopped"},
        {"404", answer(404), 0, 4, "misconfigured"},
        {"301", answer(301), 0, 4, "misconfigured"},
        {"408", answer(408), 0, 4, "backoff"},
        {"425", answer(425), 0, 4, "backoff"},
        {"429", answer(429), 0, 4, "throttled"},
        {"429 Retry-After", test::retry_after(429, "7"), 0, 4, "throttled"},
        {"500", answer(500, "<html>"), 0, 4, "backoff"},
        {"503 Retry-After", test::retry_after(503, "3"), 0, 4, "backoff"},
        {"reset", test::broken(Transport::reset), 0, 4, "backoff"},
        {"commit, then reset", test::commit_then_reset(), 0, 4, "backoff"},
        {"hang", test::hang(), 0, 4, "backoff"},
        {"resolve", test::broken(Transport::resolve), 0, 4, "backoff"},
        {"tls", test::broken(Transport::tls), 0, 4, "backoff"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        World world;
        world.upstream.script({test.step});
        world.commit(3);
        world.start();
        CHECK(world.run_until_settled());
        CHECK(world.totals.dead == test.dead);
        CHECK(world.totals.delivered == 3 - test.dead);
        CHECK(world.upstream.requests().size() == test.sends);
        CHECK(world.balanced());
        for (const auto& row : kVerdicts) {
            if (row.value == Verdict::delivered) continue;
            CAPTURE(row.name);
            const auto count =
                world.registry.counter(observe::kUpstreamRetries, "default", row.name).value();
            CHECK(count == (row.name == test.retries ? 1U : 0U));
        }
        CHECK(world.pump.status().state == LaneState::active);
    }
}

TEST_CASE("forward/pump: a dead letter has the reason, the reply's first KiB and the event") {
    World world;
    world.upstream.script({answer(422, std::string(3000, 'x'))});
    world.commit(1);
    world.start();
    CHECK(world.run_until_settled());
    const auto dead = world.store.dead_letters();
    REQUIRE(dead.size() == 1);
    CHECK(dead[0].kind == spool::DeadKind::upstream);
    CHECK(dead[0].reason == "upstream_422");
    CHECK(dead[0].detail == std::string(1024, 'x'));
    CHECK(dead[0].payload == event(1));
    CHECK(dead[0].bytes == event(1).size());
    CHECK(dead[0].id == "id-1");
    CHECK(dead[0].provider == "openai");
    CHECK(dead[0].seq == 1);
}

TEST_CASE("forward/pump: without a key nothing is sent; with one all is") {
    World world;
    world.commit(3);
    world.pump.start(world.settler.start_of(kDefaultLane));
    world.run_for(hours{1});
    CHECK(world.upstream.requests().empty());
    CHECK(world.pump.status().state == LaneState::no_key);
    CHECK(world.log.count("lane state") == 0);  // nobody has said yet that there is none
    world.pump.set_key("");
    world.pump.set_key("");
    CHECK(world.log.count("upstream.api_key_file") == 1);
    world.run_for(hours{1});
    CHECK(world.upstream.requests().empty());
    world.pump.set_key("late");
    CHECK(world.run_until_settled());
    CHECK(world.pump.status().state == LaneState::active);
    world.pump.set_key("");
    world.pump.set_key("");
    CHECK(world.log.count("upstream.api_key_file") == 2);
}

TEST_CASE("forward/pump: a key that is there from the start leaves no error in the log") {
    World world;
    world.commit(1);
    world.start();
    CHECK(world.run_until_settled());
    CHECK(world.log.count(log::Level::error) == 0);
    CHECK(world.log.count("no_key") == 1);  // "was", in the line that says the lane is active
}

TEST_CASE("forward/pump: a changed key wakes an unauthorized lane at once") {
    World world;
    world.upstream.otherwise(answer(401));
    world.commit(1);
    world.start();
    world.run_for(seconds{30});
    CHECK(world.pump.status().state == LaneState::unauthorized);
    CHECK(world.upstream.requests().size() == 1);
    world.upstream.otherwise(accept());
    world.pump.set_key("new");
    CHECK(world.run_until_settled(seconds{1}));
}

TEST_CASE("forward/pump: a refused key is read again before each probe, and only then") {
    World world;
    std::optional<Secret> found;
    std::size_t asked = 0;
    world.pump.set_key_source([&] {
        ++asked;
        return std::exchange(found, std::nullopt);
    });
    world.upstream.otherwise(answer(503));
    world.commit(1);
    world.start();
    world.run_for(minutes{10});
    CHECK(asked == 0);  // that is no matter of keys
    world.upstream.otherwise(answer(401));
    world.run_for(minutes{30});
    CHECK(world.pump.status().state == LaneState::unauthorized);
    CHECK(asked > 0);
    CHECK(asked < 30);
    CHECK(world.upstream.key() == "key");
    found = Secret("found");
    world.upstream.otherwise(accept());
    CHECK(world.run_until_settled(minutes{20}));
    CHECK(world.upstream.key() == "found");
}

TEST_CASE("forward/pump: so is a key where a page or a budget may be the key's") {
    struct Case {
        LaneState state;
        test::Step reply;
    };
    const Case cases[] = {
        {LaneState::misconfigured, answer(404, "<html>")},
        {LaneState::budget_stopped, answer(402, R"({"reason":"budget"})")},
    };
    for (const auto& test : cases) {
        CAPTURE(to_string(test.state));
        World world;
        std::size_t asked = 0;
        world.pump.set_key_source([&]() -> std::optional<Secret> {
            return ++asked > 1 ? std::optional(Secret("found")) : std::nullopt;
        });
        world.upstream.otherwise(test.reply);
        world.commit(5);
        world.start();
        world.run_for(hours{1});
        CHECK(world.pump.status().state == test.state);
        CHECK(asked > 1);
        CHECK(asked < 60);
        CHECK(world.upstream.key() == "found");
    }
}

TEST_CASE("forward/pump: an outage is probed gently and ends by itself") {
    World world;
    world.upstream.otherwise(answer(503));
    world.commit(1000);
    world.start();
    world.run_for(hours{6});
    CHECK(world.upstream.requests().size() < 1200);  // a probe each 30 s on average
    CHECK(world.log.count(log::Level::warn) < 800);
    const auto status = world.pump.status();
    CHECK(status.state == LaneState::backing_off);
    CHECK(status.last_error == "HTTP 503");
    CHECK(status.retry_at.has_value());
    CHECK(status.oldest_received_unix_ms.has_value());
    world.upstream.otherwise(accept());
    CHECK(world.run_until_settled(minutes{2}));
    CHECK(world.upstream.rows().size() == 1000);
}

TEST_CASE("forward/pump: a record that always fails does not hold its neighbours") {
    World world;
    world.upstream.choose = [](std::string_view body) -> std::optional<test::Step> {
        if (body == event(1)) return answer(500);
        return std::nullopt;
    };
    world.commit(500);
    world.start();
    CHECK(world.clock.run_until(
        world.io, [&] { return world.settler.spooled() == 1; }, world.clock.now() + minutes{2}));
    CHECK(world.upstream.rows().size() == 499);
}

TEST_CASE("forward/pump: ten refusals in a row stop the lane and lose nothing") {
    World world;
    world.upstream.otherwise(answer(400));
    world.commit(30);
    world.start();
    world.run_for(minutes{30});
    CHECK(world.pump.status().state == LaneState::misconfigured);
    CHECK(world.totals.replayed >= 10);
    CHECK(world.store.dead_letters().empty());
    CHECK(world.balanced());
    world.upstream.otherwise(accept());
    CHECK(world.run_until_settled(hours{1}));
    CHECK(world.upstream.rows().size() == 30);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: ten bad events among good ones become dead letters in the end") {
    World world;
    world.upstream.choose = [](std::string_view body) -> std::optional<test::Step> {
        for (std::uint64_t n = 1; n <= 12; ++n) {
            if (body == event(n)) return answer(400);
        }
        return std::nullopt;
    };
    world.commit(40);
    world.start();
    CHECK(world.run_until_settled(hours{12}));
    CHECK(world.upstream.rows().size() == 28);
    CHECK(world.store.dead_letters().size() == 12);
    CHECK(world.balanced());
}

TEST_CASE("forward/pump: a plan limit waits for workspace-status") {
    World world;
    world.upstream.script({answer(402, R"({"reason":"plan_limit_reached"})")});
    const auto paused = answer(200, R"({"telemetryPaused":true,"isPlanLimitReached":true})");
    const auto open = answer(200, R"({"telemetryPaused":false,"isPlanLimitReached":false})");
    world.upstream.script_status({paused, paused, open});
    world.commit(2);
    world.start();
    world.run_for(minutes{9});
    CHECK(world.plan.get().telemetry_paused);
    CHECK(world.upstream.requests().size() == 1);
    CHECK(world.upstream.status_requests() == 1);
    CHECK(world.run_until_settled(minutes{31}));
    CHECK(world.upstream.status_requests() == 3);
    CHECK_FALSE(world.plan.get().telemetry_paused);
}

TEST_CASE("forward/pump: what ends within a moment is settled together, a lone end at once") {
    World world;
    world.start();
    world.commit(1);
    world.run_for(milliseconds{2});  // the reply takes one
    CHECK(world.settler.spooled() == 0);
    CHECK(world.store.acks() == 1);

    world.run_for(seconds{1});
    world.commit(4'000);  // 8 a millisecond once the window has grown
    CHECK(world.run_until_settled());
    const auto acks = world.store.acks() - 1;
    CHECK(acks >= 4'000 / 64);  // a group is bounded, for what a crash would send again
    CHECK(acks <= 4'000 / 30);
    CHECK(world.upstream.requests().size() == 4'001);
}

TEST_CASE("forward/pump: a few records in flight at most are settled without waiting for more") {
    Options options;
    options.in_flight_max = 1;
    World world(options);
    world.start();
    world.commit(100);
    // One reply a millisecond, and each lets the next one out.
    world.run_for(milliseconds{120});
    CHECK(world.settler.spooled() == 0);
}

TEST_CASE("forward/pump: stopping lets requests in flight finish and keeps the rest spooled") {
    World world;
    auto slow = accept();
    slow.latency = milliseconds{500};
    world.upstream.otherwise(slow);
    world.commit(100);
    world.start();
    world.run_for(seconds{4});
    const auto begun = world.upstream.requests().size();
    world.stop(seconds{2});
    CHECK(world.upstream.requests().size() == begun);
    CHECK(world.totals.delivered == begun);
    CHECK(world.settler.spooled() == 100 - begun);
    CHECK(world.upstream.rebuilds() == 1);  // idle connections are closed
}

TEST_CASE("forward/pump: stopping does not wait past its deadline for a hanging request") {
    World world;
    world.upstream.otherwise(test::hang());
    world.commit(10);
    world.start();
    world.run_for(seconds{1});
    CHECK(world.upstream.in_flight() == 1);
    const auto before = world.clock.now();
    world.stop(seconds{2});
    CHECK(world.clock.now() - before == seconds{2});
    CHECK(world.settler.spooled() == 10);
}

TEST_CASE(
    "forward/pump: draining ends when empty, gives a parked lane one try, keeps its deadline") {
    SUBCASE("empty") {
        World world;
        world.commit(50);
        world.start();
        CHECK(world.await(world.pump.drain_until(world.clock.now() + seconds{20})));
        CHECK(world.settler.spooled() == 0);
    }
    SUBCASE("parked") {
        World world;
        world.upstream.otherwise(answer(404));
        world.commit(5);
        world.start();
        world.run_for(seconds{5});
        const auto before = world.clock.now();
        CHECK_FALSE(world.await(world.pump.drain_until(before + seconds{20})));
        CHECK(world.upstream.requests().size() == 2);
        CHECK(world.clock.now() - before < seconds{1});
    }
    SUBCASE("parked, and the last try is taken") {
        World world;
        world.upstream.script({answer(404)});
        world.commit(5);
        world.start();
        world.run_for(seconds{5});
        CHECK(world.await(world.pump.drain_until(world.clock.now() + seconds{20})));
    }
    SUBCASE("failing all the time") {
        World world;
        world.upstream.otherwise(test::broken(Transport::refused));
        world.commit(5);
        world.start();
        const auto before = world.clock.now();
        CHECK_FALSE(world.await(world.pump.drain_until(before + seconds{20})));
        CHECK(world.clock.now() - before <= seconds{20});
    }
    SUBCASE("no key") {
        World world;
        world.commit(5);
        world.pump.start(world.settler.start_of(kDefaultLane));
        CHECK_FALSE(world.await(world.pump.drain_until(world.clock.now() + seconds{20})));
    }
}

TEST_CASE("forward/pump: a spool that cannot be read for a while is read again") {
    World world;
    world.store.fail_next(test::StoreCall::read, Errc::spool_io, 5);
    world.commit(3);
    world.start();
    CHECK(world.run_until_settled(minutes{1}));
    CHECK(world.log.count("spool could not be read") == 1);
}

TEST_CASE("forward/pump: random faults lose nothing and repeat nothing without a reason") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        World world;
        Xoshiro dice{seed};
        std::set<std::string> unsure;  // the reply was lost
        world.upstream.choose = [&](std::string_view body) -> std::optional<test::Step> {
            if (!dice.chance(100)) return std::nullopt;
            switch (dice.between(0, 5)) {
                case 0: return answer(500);
                case 1: return answer(429);
                case 2: return test::hang();
                case 3: return test::broken(Transport::refused);
                case 4: return test::retry_after(503, "2");
                default: unsure.emplace(body); return test::commit_then_reset();
            }
        };
        world.start();
        for (int i = 0; i < 20; ++i) {
            world.commit(dice.between(1, 60));
            world.run_for(dice.between(milliseconds{1}, milliseconds{2000}));
            CHECK(world.balanced());
        }
        CHECK(world.run_until_settled());
        CHECK(world.upstream.rows().size() == world.written);
        for (const auto& [body, times] : world.upstream.rows()) {
            if (times > 1) CHECK(unsure.contains(body));
        }
    }
}

}  // namespace opsrelay::forward
