#include "forward/resolver.h"

#include <doctest/doctest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/task_group.h"
#include "forward/name_service.h"
#include "support/sim_clock.h"

namespace opsrelay::forward {

namespace {

using Found = std::optional<Result<std::vector<asio::ip::address>>>;

/// Lookups run on threads of their own, so time that is waited for is real, and time that is asked
/// for is the test's.
struct World {
    ~World() {
        tasks.cancel(asio::cancellation_type::terminal);
        clock.run_for(io, seconds{1});
        CHECK(tasks.size() == 0);
    }
    static asio::awaitable<void> keep(Resolver& resolver, std::string host, TimePoint deadline,
                                      Found& into) {
        into.emplace(co_await resolver.resolve(std::move(host), deadline));
    }
    void ask(const std::string& host, Found& into, milliseconds timeout = seconds{10}) {
        tasks.spawn("ask", keep(*resolver, host, clock.now() + timeout, into));
        io.restart();
        io.poll();
    }
    /// Runs what is ready until the answer is there; lookups of this machine's names return.
    void wait_for(const Found& found) {
        const auto work = asio::make_work_guard(io);
        io.restart();
        while (!found) io.run_one();
    }
    static void wait_for_lookups(std::size_t count) {
        while (test::SilentResolver::waiting() < count) std::this_thread::yield();
    }

    asio::io_context io;
    test::SimClock clock;
    std::optional<Resolver> resolver{std::in_place, io.get_executor(), clock};
    TaskGroup tasks{io.get_executor(), clock};
};

}  // namespace

TEST_CASE("forward/resolver: numbers, names, and names that do not exist") {
    World world;
    Found numeric;
    world.ask("::1", numeric);
    REQUIRE(numeric);
    CHECK(numeric->value() == std::vector{asio::ip::make_address("::1")});
    CHECK(world.resolver->under_way() == 0);
    Found name;
    world.ask("localhost", name);
    world.wait_for(name);
    REQUIRE(name->has_value());
    for (const auto& address : name->value()) CHECK(address.is_loopback());
    Found none;
    world.ask("opsrelay-test.invalid", none);
    world.wait_for(none);
    REQUIRE(none->has_error());
    CHECK(none->error().code == Errc::refused);
    CHECK(none->error().context.starts_with("resolve opsrelay-test.invalid: "));
    CHECK(world.resolver->under_way() == 0);
}

TEST_CASE("forward/resolver: all addresses of a name, in the system's order") {
    const test::ManyAddresses names({"127.0.0.3", "::1", "127.0.0.2"});
    World world;
    Found found;
    world.ask("many.test", found);
    world.wait_for(found);
    REQUIRE(found->has_value());
    CHECK(found->value() == std::vector{asio::ip::make_address("127.0.0.3"),
                                        asio::ip::make_address("::1"),
                                        asio::ip::make_address("127.0.0.2")});
}

TEST_CASE("forward/resolver: a name server that does not answer costs the deadline, not a thread") {
    test::SilentResolver silence;
    World world;
    Found first;
    Found second;
    world.ask("a.silent", first, seconds{1});
    world.ask("a.silent", second, seconds{2});
    CHECK(world.resolver->under_way() == 1);  // one lookup for both
    world.clock.run_for(world.io, seconds{1});
    REQUIRE(first);
    CHECK(first->error().code == Errc::timed_out);
    CHECK(first->error().context == "resolve a.silent: no answer in time");
    CHECK_FALSE(second);
    Found other;  // meanwhile other names are found
    world.ask("localhost", other);
    world.wait_for(other);
    CHECK(other->has_value());
    world.wait_for_lookups(1);
    silence.release();
    world.wait_for(second);  // it waits for the answer, which is no
    CHECK(second->error().code == Errc::refused);
    CHECK(world.resolver->under_way() == 0);
}

TEST_CASE("forward/resolver: a lookup that was lost is begun again, a few times") {
    test::SilentResolver silence;
    World world;
    for (std::size_t i = 0; i < kLookupsOfNameMax; ++i) {
        Found found;
        world.ask("a.silent", found, seconds{1});
        CHECK(world.resolver->under_way() == i + 1);
        world.clock.run_for(world.io, kLookupShared);
        CHECK(found->error().code == Errc::timed_out);
    }
    Found found;
    world.ask("a.silent", found);
    REQUIRE(found);
    CHECK(found->error().context ==
          "resolve a.silent: 4 earlier lookups have not come back from the system's resolver");
    CHECK(world.resolver->under_way() == kLookupsOfNameMax);
    world.wait_for_lookups(kLookupsOfNameMax);
    silence.release();
    Found again;
    world.ask("localhost", again);
    world.wait_for(again);
    CHECK(again->has_value());
}

TEST_CASE("forward/resolver: names together have a bounded number of lookups") {
    test::SilentResolver silence;
    World world;
    std::vector<Found> found(kLookupsMax + 1);
    for (std::size_t i = 0; i < found.size(); ++i) {
        world.ask(std::to_string(i) + ".silent", found[i], seconds{1});
    }
    CHECK(world.resolver->under_way() == kLookupsMax);
    REQUIRE(found.back());
    CHECK(found.back()->error().code == Errc::timed_out);
    CHECK_FALSE(found.front());
    world.clock.run_for(world.io, seconds{1});
    CHECK(found.front()->error().code == Errc::timed_out);
    world.wait_for_lookups(kLookupsMax);
}

TEST_CASE("forward/resolver: it may go while lookups are under way") {
    test::SilentResolver silence;
    {
        World world;
        Found found;
        world.ask("a.silent", found, seconds{1});
        world.clock.run_for(world.io, seconds{1});
        world.wait_for_lookups(1);
        CHECK(world.resolver->under_way() == 1);
        SUBCASE("then its thread comes back to nothing") { world.resolver.reset(); }
        SUBCASE("then its answer is not delivered") {
            silence.release();
            world.resolver.reset();
        }
    }
    silence.release();
}

TEST_CASE("forward/resolver: a waiting coroutine can be cancelled") {
    test::SilentResolver silence;
    World world;
    Found found;
    world.ask("a.silent", found, hours{1});
    world.tasks.cancel(asio::cancellation_type::terminal);
    world.clock.run_for(world.io, milliseconds{1});
    CHECK(world.tasks.size() == 0);
    REQUIRE(found);
    CHECK(found->has_error());
    world.wait_for_lookups(1);
}

}  // namespace opsrelay::forward
