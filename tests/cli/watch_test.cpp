#include "cli/watch.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "cli/fake_server.h"
#include "cli/run_command.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;

namespace {

std::string status(int received, int delivered) {
    return fmt::format(
        R"({{"version":"9","ready":true,"ledger":{{"received":{},"delivered":{}}}}})", received,
        delivered);
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// Answers, then interrupts this process as Ctrl-C would: the command under test waits in this
/// thread's group and has SIGINT blocked.
FakeServer::Handler answer_and_interrupt(std::string bytes, pthread_t whom) {
    return [bytes = std::move(bytes), whom](int fd) {
        http_answer(bytes)(fd);
        ::pthread_kill(whom, SIGINT);
    };
}

}  // namespace

TEST_CASE("cli/watch: rates are of two looks at the same process") {
    RateMeter meter;
    const TimePoint start{};
    CHECK_FALSE(meter.look(status(10, 5), start).has_value());
    const auto rates = meter.look(status(30, 10), start + seconds{2});
    REQUIRE(rates.has_value());
    CHECK(rates->received == doctest::Approx(10));
    CHECK(rates->delivered == doctest::Approx(2.5));
    CHECK_FALSE(meter.look(status(3, 0), start + seconds{4}).has_value());  // started anew
    CHECK(meter.look(status(4, 1), start + seconds{6}).has_value());
    CHECK_FALSE(meter.look(status(5, 1), start + seconds{6}).has_value());  // no time passed
    meter.forget();
    CHECK_FALSE(meter.look(status(9, 9), start + seconds{8}).has_value());
    CHECK_FALSE(meter.look("no", start + seconds{9}).has_value());
    CHECK_FALSE(meter.look("[]", start + seconds{10}).has_value());
    CHECK_FALSE(meter.look(status(9, 9), start + seconds{11}).has_value());
    CHECK(rates_text(std::nullopt) == "received -, delivered -");
    CHECK(rates_text(Rates{1.25, 0}) == "received 1.2/s, delivered 0.0/s");
    CHECK(rates_json(Rates{1.5, 2}) == R"({"received_per_s":1.5,"delivered_per_s":2.0})");
    CHECK(rates_json(std::nullopt) == "null");
}

TEST_CASE("cli/status: --watch shows a block an interval until it is interrupted") {
    const test::TempDir dir;
    const auto watch = [&dir](std::vector<std::string> more, bool terminal = false) {
        FakeServer server(
            dir / "admin.sock",
            {http_answer(http_reply(200, status(10, 5))), http_answer(http_reply(500, "{}")),
             answer_and_interrupt(http_reply(200, status(20, 9)), ::pthread_self())});
        std::vector<std::string> arguments{"status", "--run-dir", dir.path(), "--watch", "0.1"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        auto program = bare_program();
        program.out_is_terminal = terminal;
        auto outcome = run_command(arguments, std::move(program));
        server.join();
        ::unlink((dir / "admin.sock").c_str());
        return outcome;
    };
    const auto text = watch({});
    CHECK(text.code == 0);
    CHECK(text.err.empty());
    CAPTURE(text.out);
    CHECK(has(text.out, "received -, delivered -\n\nopsrelay 9: ready\n"));
    CHECK(has(text.out, "the daemon answered HTTP 500"));
    CHECK_FALSE(has(text.out, "\x1b"));
    const auto json = watch({"--output", "json"});
    CHECK(std::count(json.out.begin(), json.out.end(), '\n') == 3);
    CHECK(has(json.out, "\"rates\":null,\"status\":{\"version\":\"9\""));
    CHECK(has(json.out, "\"error\":\"/status: the daemon answered HTTP 500\""));
    const auto terminal = watch({}, true);
    CHECK(has(terminal.out, "\x1b[H\x1b[2J"));
    CHECK(has(terminal.out, "\x1b[32mready\x1b[0m"));
}

TEST_CASE("cli/status: --watch refuses what makes no sense, and a daemon that is not there") {
    const test::TempDir dir;
    struct Case {
        std::vector<std::string> arguments;
        int code;
        const char* complaint;
    };
    const Case cases[] = {
        {{"--watch", "0"}, 2, "--watch: 0 is not a number of seconds from 0.1 to 3600"},
        {{"--watch", "2s"}, 2, "--watch: 2s is not"},
        {{"--watch", "nan"}, 2, "--watch: nan is not"},
        {{"--watch", "2", "--ready"}, 2, "--ready"},
        {{"--watch"}, 1, "the daemon does not answer"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.complaint);
        std::vector<std::string> arguments{"status", "--run-dir", dir.path()};
        arguments.insert(arguments.end(), test.arguments.begin(), test.arguments.end());
        const auto outcome = run_command(arguments);
        CHECK(outcome.code == test.code);
        CHECK(has(outcome.err, test.complaint));
    }
}
