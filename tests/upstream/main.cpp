// opsrelay-upstream: start, signals, final statistics.
#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>

#include "core/clock.h"
#include "core/error.h"
#include "core/nothrow.h"
#include "core/task_group.h"
#include "upstream/command_line.h"
#include "upstream/server.h"

namespace {

using namespace opsrelay;

int fail(const Error& error) {
    fmt::print(stderr, "opsrelay-upstream: {}\n", error.context);
    return exit_code(error.code);
}

asio::awaitable<void> stop_on_signal(asio::signal_set& signals, upstream::Server& server) {
    co_await signals.async_wait(nothrow);
    server.stop();
}

int run(upstream::Settings settings) {
    asio::io_context io{1};
    SystemClock clock;
    asio::signal_set signals(io, SIGTERM, SIGINT);
    upstream::Server server(io.get_executor(), clock, std::move(settings));
    const auto started = server.start();
    if (!started) {
        server.stop();
        io.run();
        return fail(started.error());
    }
    TaskGroup tasks(io.get_executor(), clock);
    tasks.spawn("signals", stop_on_signal(signals, server));
    fmt::print("opsrelay-upstream listening on {} control {}\n", server.url(),
               server.control_url());
    std::fflush(stdout);
    io.run();
    fmt::print("{}", server.stats_json());
    std::fflush(stdout);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    upstream::CommandLine line;
    try {
        line.app().parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return line.app().exit(error) == 0 ? 0 : 2;
    }
    auto settings = line.settings();
    if (!settings) return fail(settings.error());
    try {
        return run(std::move(*settings));
    } catch (const std::exception& error) {
        fmt::print(stderr, "opsrelay-upstream: {}\n", error.what());
        return 1;
    }
}
