#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "cli/acked_sender.h"
#include "cli/fake_server.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;
using namespace std::chrono_literals;

namespace {

const std::string kHello = R"({"opsrelay":{"acks":true}})";

std::string ack(std::uint64_t durable, std::uint64_t rejected) {
    return fmt::format("{{\"durable\":{},\"rejected\":{}}}\n", durable, rejected);
}

std::vector<std::string> events(std::size_t count) {
    std::vector<std::string> all;
    for (std::size_t i = 1; i <= count; ++i) all.push_back(fmt::format("{{\"n\":{}}}", i));
    return all;
}

SenderOptions options(const std::string& path) {
    SenderOptions made;
    made.sockets = {path};
    made.retry_delay = 1ms;
    made.retries = 3;
    return made;
}

// Reads lines until the sender half-closes, acknowledging each; lines that contain `bad` as
// rejected.
FakeServer::Handler acknowledge(std::vector<std::string>& seen, std::string bad = "none") {
    return [&seen, bad](int fd) {
        if (read_line(fd) != kHello) return;
        std::uint64_t durable = 0;
        std::uint64_t rejected = 0;
        for (auto line = read_line(fd); !line.empty(); line = read_line(fd)) {
            (line.find(bad) == std::string::npos ? durable : rejected) += 1;
            seen.push_back(std::move(line));
            write_text(fd, ack(durable, rejected));
        }
    };
}

const SystemClock kClock;

}  // namespace

TEST_CASE("cli/acked_sender: every event is acknowledged") {
    const test::TempDir dir;
    std::vector<std::string> seen;
    FakeServer server(dir / "s", {acknowledge(seen)});
    LineSource source(events(500));
    const auto report = AckedSender(options(dir / "s"), source, kClock).run();
    server.join();
    CHECK(report.all_durable());
    CHECK(report.durable == 500);
    CHECK(report.reconnects == 0);
    CHECK(seen == events(500));
}

TEST_CASE("cli/acked_sender: rejected events are counted apart") {
    const test::TempDir dir;
    std::vector<std::string> seen;
    FakeServer server(dir / "s", {acknowledge(seen, "\"n\":7}")});
    LineSource source(events(10));
    const auto report = AckedSender(options(dir / "s"), source, kClock).run();
    server.join();
    CHECK_FALSE(report.all_durable());
    CHECK(report.failure.empty());
    CHECK(report.events == 10);
    CHECK(report.durable == 9);
    CHECK(report.rejected == 1);
}

TEST_CASE("cli/acked_sender: after a broken connection only what was not settled is sent again") {
    const test::TempDir dir;
    std::vector<std::string> again;
    const auto half = [](int fd) {
        for (int i = 0; i <= 10; ++i) static_cast<void>(read_line(fd));  // hello and ten events
        write_text(fd, ack(3, 1));
    };
    FakeServer server(dir / "s", {half, acknowledge(again)});
    LineSource source(events(10));
    const auto report = AckedSender(options(dir / "s"), source, kClock).run();
    server.join();
    CHECK(report.failure.empty());
    CHECK(report.durable == 9);
    CHECK(report.rejected == 1);
    CHECK(report.reconnects == 1);
    REQUIRE(again.size() == 6);
    CHECK(again.front() == "{\"n\":5}");
}

TEST_CASE("cli/acked_sender: a connection that broke while nothing was owed is made again") {
    const test::TempDir dir;
    std::vector<std::string> again;
    std::promise<void> settled;
    const auto one = [&settled](int fd) {
        for (int i = 0; i <= 1; ++i) static_cast<void>(read_line(fd));  // hello and one event
        write_text(fd, ack(1, 0));
        settled.set_value();
    };
    FakeServer server(dir / "s", {one, acknowledge(again)});
    int ends[2] = {-1, -1};
    REQUIRE(::pipe(ends) == 0);
    const UniqueFd reading(ends[0]);
    std::thread writer([fd = ends[1], &settled] {
        const UniqueFd writing(fd);
        const std::string first = "{\"n\":1}\n";
        const std::string second = "{\"n\":2}\n";
        if (::write(writing.get(), first.data(), first.size()) < 0) return;
        settled.get_future().wait();
        static_cast<void>(::write(writing.get(), second.data(), second.size()));
    });
    LineSource source(reading.get());
    const auto report = AckedSender(options(dir / "s"), source, kClock).run();
    writer.join();
    server.join();
    CHECK(report.all_durable());
    CHECK(report.durable == 2);
    CHECK(report.reconnects == 1);
    CHECK(again == std::vector<std::string>{"{\"n\":2}"});
}

TEST_CASE("cli/acked_sender: tries without progress are bounded") {
    const test::TempDir dir;
    const auto drop = [](int fd) { static_cast<void>(read_line(fd)); };
    FakeServer server(dir / "s", {drop, drop, drop, drop});
    LineSource source(events(2));
    const auto report = AckedSender(options(dir / "s"), source, kClock).run();
    CHECK(server.join() == 4);
    CHECK(report.failure.starts_with("4 tries without progress: "));
    CHECK(report.unconfirmed == 2);
    CHECK(report.reconnects == 3);
}

TEST_CASE("cli/acked_sender: nobody listens") {
    const test::TempDir dir;
    LineSource source(events(2));
    const auto report = AckedSender(options(dir / "absent"), source, kClock).run();
    CHECK(report.failure.find("absent: No such file or directory") != std::string::npos);
    CHECK(report.unconfirmed == 2);
}

TEST_CASE("cli/acked_sender: a relay that never acknowledges is given up after the timeout") {
    const test::TempDir dir;
    const auto silent = [](int fd) {
        while (!read_line(fd).empty()) {
        }
        // The sender has half-closed; hold the connection until it gives up.
        pollfd entry{fd, 0, 0};
        ::poll(&entry, 1, 10'000);
    };
    FakeServer server(dir / "s", {silent});
    auto given = options(dir / "s");
    given.timeout = 50ms;
    LineSource source(events(3));
    SendReport report;
    {
        AckedSender sender(given, source, kClock);
        report = sender.run();
    }
    server.join();
    CHECK(report.failure.starts_with("no event was confirmed for 50 ms"));
    CHECK(report.unconfirmed == 3);
    CHECK_FALSE(report.all_durable());
}

TEST_CASE("cli/acked_sender: what is not an ack, or confirms too much, is no confirmation") {
    for (const std::string& nonsense :
         {std::string("hello\n"), ack(4, 0), ack(18'446'744'073'709'551'615ULL, 2),
          std::string("{\"durable\":-1,\"rejected\":0}\n"), std::string("{\"durable\":3}\n"),
          std::string(10'000, 'x')}) {
        CAPTURE(nonsense);
        const test::TempDir dir;
        const auto lie = [&nonsense](int fd) {
            for (int i = 0; i <= 3; ++i) static_cast<void>(read_line(fd));
            write_text(fd, nonsense);
        };
        FakeServer server(dir / "s", {lie});
        auto given = options(dir / "s");
        given.retries = 0;
        LineSource source(events(3));
        const auto report = AckedSender(given, source, kClock).run();
        server.join();
        CHECK_FALSE(report.failure.empty());
        CHECK(report.unconfirmed == 3);
    }
}

TEST_CASE("cli/acked_sender: a pipe larger than the window is sent as acks make room") {
    const test::TempDir dir;
    std::vector<std::string> seen;
    FakeServer server(dir / "s", {acknowledge(seen)});
    int ends[2] = {-1, -1};
    REQUIRE(::pipe(ends) == 0);
    UniqueFd reading(ends[0]);
    std::thread writer([fd = ends[1]] {
        const UniqueFd writing(fd);
        for (const auto& event : events(2000)) {
            const auto line = event + "\n";
            if (::write(writing.get(), line.data(), line.size()) < 0) return;
        }
    });
    auto given = options(dir / "s");
    given.window = 1_KiB;
    LineSource source(reading.get());
    const auto report = AckedSender(given, source, kClock).run();
    writer.join();
    server.join();
    CHECK(report.all_durable());
    CHECK(report.durable == 2000);
    CHECK(seen == events(2000));
}
