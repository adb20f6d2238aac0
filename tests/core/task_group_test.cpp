#include "core/task_group.h"

#include <doctest/doctest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>

#include <stdexcept>
#include <vector>

#include "core/log.h"

namespace opsrelay {

namespace {

asio::awaitable<void> until_stopped(Clock& clock, int& rounds) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        ++rounds;
        co_await clock.sleep_for(hours{1});
    }
}

asio::awaitable<void> deaf_to_total(Clock& clock, bool& ended) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while ((stop.cancelled() & asio::cancellation_type::terminal) ==
           asio::cancellation_type::none) {
        co_await clock.sleep_for(hours{1});
    }
    ended = true;
}

asio::awaitable<void> wait_once(Signal& signal, bool& ended) {
    co_await signal.wait();
    ended = true;
}

asio::awaitable<void> fail() {
    throw std::runtime_error("boom");
    co_return;
}

asio::awaitable<void> stop_in_two_steps(TaskGroup& tasks, Clock& clock, std::vector<bool>& steps) {
    tasks.cancel(asio::cancellation_type::total);
    steps.push_back(co_await tasks.join_until(clock.now() + milliseconds{1}));
    tasks.cancel(asio::cancellation_type::terminal);
    co_await tasks.join();
    steps.push_back(tasks.size() == 0);
}

}  // namespace

TEST_CASE("core/task_group: cancelled tasks leave their loops and are joined") {
    asio::io_context io;
    SystemClock clock;
    TaskGroup tasks(io.get_executor(), clock);
    int rounds = 0;
    for (int i = 0; i < 3; ++i) tasks.spawn("loop", until_stopped(clock, rounds));
    io.poll();
    CHECK(rounds == 3);
    CHECK(tasks.size() == 3);
    tasks.cancel(asio::cancellation_type::total);
    io.run();
    CHECK(tasks.size() == 0);
}

TEST_CASE("core/task_group: a stop in two steps ends what ignores the first") {
    asio::io_context io;
    SystemClock clock;
    TaskGroup tasks(io.get_executor(), clock);
    bool ended = false;
    std::vector<bool> steps;
    tasks.spawn("deaf", deaf_to_total(clock, ended));
    asio::co_spawn(io, stop_in_two_steps(tasks, clock, steps), asio::detached);
    io.run();
    CHECK(ended);
    REQUIRE(steps.size() == 2);
    CHECK_FALSE(steps[0]);
    CHECK(steps[1]);
}

TEST_CASE("core/task_group: a cancellation that is under way when its task ends harms nobody") {
    asio::io_context io;
    SystemClock clock;
    TaskGroup tasks(io.get_executor(), clock);
    Signal signal(io.get_executor(), clock);
    bool ended = false;
    tasks.spawn("waits", wait_once(signal, ended));
    io.poll();
    signal.notify_all();                              // the task will end ...
    tasks.cancel(asio::cancellation_type::terminal);  // ... while this waits for its turn
    io.restart();
    io.run();
    CHECK(ended);
    CHECK(tasks.size() == 0);
}

TEST_CASE("core/task_group: a task that throws is counted and the others go on") {
    asio::io_context io;
    SystemClock clock;
    TaskGroup tasks(io.get_executor(), clock);
    int rounds = 0;
    log::redirect([](void*, log::Level, std::string_view) {}, nullptr);
    tasks.spawn("bad", fail());
    tasks.spawn("good", until_stopped(clock, rounds));
    io.poll();
    log::redirect(nullptr, nullptr);
    CHECK(tasks.failed() == 1);
    CHECK(tasks.size() == 1);
    CHECK(rounds == 1);
    tasks.cancel(asio::cancellation_type::terminal);
    io.restart();
    io.run();
    CHECK(tasks.size() == 0);
}

}  // namespace opsrelay
