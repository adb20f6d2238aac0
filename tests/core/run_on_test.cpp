#include "core/run_on.h"

#include <doctest/doctest.h>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>

#include <memory>
#include <thread>

namespace opsrelay {

namespace {

struct Seen {
    std::thread::id job;
    std::thread::id after;
    int value = 0;
    bool void_ran = false;
};

asio::awaitable<void> visit(asio::any_io_executor other, Seen& seen) {
    auto job = [&seen, owned = std::make_unique<int>(41)] {
        seen.job = std::this_thread::get_id();
        return *owned + 1;
    };
    seen.value = co_await run_on(other, std::move(job));
    seen.after = std::this_thread::get_id();
    auto quiet = [&seen] { seen.void_ran = true; };
    co_await run_on(other, std::move(quiet));
}

}  // namespace

TEST_CASE("core/run_on: the job runs there and the caller goes on here") {
    asio::io_context here;
    asio::io_context there;
    auto work = asio::make_work_guard(there);
    std::thread thread([&there] { there.run(); });
    Seen seen;
    // The test's own scope outlives the coroutine: both contexts are drained below.
    asio::co_spawn(here, visit(there.get_executor(), seen), asio::detached);
    here.run();
    work.reset();
    const auto other_id = thread.get_id();
    thread.join();
    CHECK(seen.job == other_id);
    CHECK(seen.after == std::this_thread::get_id());
    CHECK(seen.value == 42);
    CHECK(seen.void_ran);
}

}  // namespace opsrelay
