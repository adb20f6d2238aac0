#include "core/signal.h"

#include <doctest/doctest.h>
#include <boost/asio/io_context.hpp>

#include "core/task_group.h"

namespace opsrelay {

namespace {

asio::awaitable<void> wait_once(Signal& signal, int& woken) {
    co_await signal.wait();
    ++woken;
}

asio::awaitable<void> wait_until(Signal& signal, TimePoint due, int& woken) {
    co_await signal.wait_until(due);
    ++woken;
}

// The wait is made before the notification and resumed after it.
asio::awaitable<void> notify_between(Signal& signal, int& woken) {
    auto waiting = signal.wait();
    signal.notify_all();
    co_await std::move(waiting);
    ++woken;
}

struct World {
    asio::io_context io;
    SystemClock clock;
    Signal signal{io.get_executor(), clock};
    TaskGroup tasks{io.get_executor(), clock};
    int woken = 0;
};

}  // namespace

TEST_CASE("core/signal: everybody who waited is woken, nobody else") {
    World world;
    world.tasks.spawn("a", wait_once(world.signal, world.woken));
    world.tasks.spawn("b", wait_once(world.signal, world.woken));
    world.io.poll();
    CHECK(world.woken == 0);
    world.signal.notify_all();
    world.io.poll();
    CHECK(world.woken == 2);
    world.tasks.spawn("c", wait_once(world.signal, world.woken));
    world.io.restart();
    world.io.poll();
    CHECK(world.woken == 2);
    world.tasks.cancel(asio::cancellation_type::terminal);
    world.io.run();
    CHECK(world.woken == 3);  // cancelled waits end too
    CHECK(world.tasks.size() == 0);
}

TEST_CASE("core/signal: a notification between the call and the wait is not lost") {
    World world;
    world.tasks.spawn("a", notify_between(world.signal, world.woken));
    world.io.run();
    CHECK(world.woken == 1);
}

TEST_CASE("core/signal: a due time ends the wait, also one that has passed") {
    World world;
    world.tasks.spawn("a", wait_until(world.signal, world.clock.now(), world.woken));
    world.tasks.spawn("b",
                      wait_until(world.signal, world.clock.now() + milliseconds{1}, world.woken));
    world.io.run();
    CHECK(world.woken == 2);
}

}  // namespace opsrelay
