#include <doctest/doctest.h>

#include <algorithm>

#include "cli/fake_server.h"
#include "cli/run_command.h"
#include "cli/tail_text.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;

namespace {

constexpr const char* kHead = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n";
constexpr const char* kGreeting = "opsrelay: watching events as they pass; Ctrl-C ends it\n";
constexpr const char* kDead =
    R"({"at":"2026-01-02T03:04:05.678Z","outcome":"dead","lane":"default","id":"r-1",)"
    R"("provider":"openai","model":"gpt-4o","input_tokens":7,"output_tokens":2,)"
    R"("total_tokens":9,"status":"success","reason":"400"})";

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// The request's first line into `asked`, then these bytes.
FakeServer::Handler lines(std::string bytes, std::string* asked = nullptr) {
    return [bytes = std::move(bytes), asked](int fd) {
        auto line = read_line(fd);
        if (asked != nullptr) *asked = line;
        while (line != "\r") line = read_line(fd);
        write_text(fd, bytes);
    };
}

Outcome tail(const test::TempDir& dir, std::vector<std::string> more) {
    std::vector<std::string> arguments{"tail", "--run-dir", dir.path(), "--wait", "0s"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_command(arguments);
}

}  // namespace

TEST_CASE("cli/tail_text: a line for people, steered by nobody") {
    CHECK(read_tail_line(kDead, false, {})->text ==
          "03:04:05.678 dead      default r-1 openai/gpt-4o 7+2=9 tokens success (400)");
    CHECK(
        read_tail_line(R"({"at":"x","outcome":"dropped","lane":"a","reason":"oldest","events":7})",
                       false, {})
            ->text == "x dropped   a 7 events (oldest)");
    CHECK(
        read_tail_line(R"({"at":"x","outcome":"dropped","reason":"purged","events":2})", false, {})
            ->text == "x dropped   - 2 events (purged)");
    const auto hidden = read_tail_line(R"({"not_shown":12})", false, {});
    CHECK(hidden->text == "12 not shown: too many at once, or read too slowly");
    CHECK(read_tail_line(R"({"not_shown":12})", true, {})->text ==
          "12 not shown, of all lanes and kinds: too many at once, or read too slowly");
    CHECK_FALSE(hidden->event);
    const auto hostile = read_tail_line(R"({"outcome":"dead","id":"\u001b[2J"})", false, {});
    CHECK_FALSE(has(hostile->text, "\x1b"));
    for (const auto* text : {"", "x", "[]", "{}", R"({"outcome":7})"}) {
        CAPTURE(text);
        CHECK_FALSE(read_tail_line(text, false, {}).has_value());
    }
}

TEST_CASE("cli/tail: -n ends it, filters reach the daemon, empty lines are nothing") {
    const test::TempDir dir;
    std::string asked;
    const std::string stream =
        std::string(kHead) + "\n\n" + kDead + "\n{\"not_shown\":3}\n" + kDead + "\n" + kDead + "\n";
    FakeServer server(dir / "admin.sock", {lines(stream, &asked), lines(stream)});
    const auto text =
        tail(dir, {"-n", "2", "--outcome", "dead,retried", "--lane", "eu-1", "--model", "a/b c"});
    CHECK(text.code == 0);
    CHECK(text.err == kGreeting);
    CHECK(has(text.out, "dead      default r-1"));
    CHECK(has(text.out, "3 not shown, of all lanes and kinds: too many"));
    CHECK(std::count(text.out.begin(), text.out.end(), '\n') == 3);
    const auto json = tail(dir, {"-n", "1", "--output", "json"});
    CHECK(json.out == std::string(kDead) + "\n");
    server.join();
    CHECK(asked == "GET /tail?outcome=dead,retried&lane=eu-1&model=a%2Fb%20c HTTP/1.1\r");
}

TEST_CASE("cli/tail: a daemon that ends is waited for, then it is an error") {
    const test::TempDir dir;
    FakeServer server(dir / "admin.sock", {lines(std::string(kHead) + kDead + "\n")});
    const auto gone = tail(dir, {});
    server.join();
    CHECK(gone.code == 1);
    CHECK(has(gone.out, "r-1"));
    CHECK(has(gone.err, "the daemon ended the connection; waiting 0s for it to return\n"));
    CHECK(has(gone.err, "the daemon does not answer; tried connect"));
}

TEST_CASE("cli/tail: one that comes back is followed again") {
    const test::TempDir dir;
    const auto once = std::string(kHead) + kDead + "\n";
    FakeServer server(dir / "admin.sock", {lines(once), lines(once)});
    const auto back = run_command({"tail", "--run-dir", dir.path(), "--wait", "1m", "-n", "2"});
    server.join();
    CHECK(back.code == 0);
    CHECK(back.err ==
          std::string(kGreeting) +
              "opsrelay: the daemon ended the connection; waiting 1m for it to return\n" +
              kGreeting);
    CHECK(std::count(back.out.begin(), back.out.end(), '\n') == 2);
}

TEST_CASE("cli/tail: what the daemon refuses is told") {
    const test::TempDir dir;
    FakeServer server(
        dir / "admin.sock",
        {http_answer(http_reply(400, R"({"reason":"bad_filter","message":"outcome: x is none"})")),
         http_answer(http_reply(503, R"({"reason":"too_many_tails","message":"4 watch already"})")),
         http_answer(http_reply(404, "{}")), http_answer(http_reply(403, R"({"reason":"no"})")),
         http_answer("220 mail\r\n\r\n")});
    struct Case {
        int code;
        const char* complaint;
    };
    const Case cases[] = {{2, "outcome: x is none"},
                          {1, "4 watch already"},
                          {1, "the daemon is older"},
                          {1, "HTTP 403 no"},
                          {1, "not from opsrelay"}};
    for (const auto& test : cases) {
        CAPTURE(test.complaint);
        const auto outcome = tail(dir, {});
        CHECK(outcome.code == test.code);
        CHECK(has(outcome.err, test.complaint));
    }
    server.join();
    const auto nobody = tail(dir, {});
    CHECK(nobody.code == 1);
    CHECK(has(nobody.err, "start it with `opsrelay run`"));
    CHECK(tail(dir, {"--wait", "5"}).code == 2);
}

TEST_CASE("cli/tail: colour only when asked for, or on a terminal that wants it") {
    const test::TempDir dir;
    const auto stream = std::string(kHead) + kDead + "\n";
    FakeServer server(dir / "admin.sock",
                      {lines(stream), lines(stream), lines(stream), lines(stream), lines(stream)});
    const auto coloured = [&](bool terminal, const char* colour, const char* no_color) {
        auto program = bare_program();
        program.out_is_terminal = terminal;
        if (no_color != nullptr) program.environment.variables["NO_COLOR"] = no_color;
        const auto outcome = run_command(
            {"tail", "--run-dir", dir.path(), "-n", "1", "--color", colour}, std::move(program));
        return has(outcome.out, "\x1b[31mdead");
    };
    CHECK_FALSE(coloured(false, "auto", nullptr));
    CHECK(coloured(true, "auto", nullptr));
    CHECK_FALSE(coloured(true, "auto", "1"));
    CHECK(coloured(false, "always", "1"));
    CHECK_FALSE(coloured(true, "never", nullptr));
    server.join();
    CHECK(tail(dir, {"--color", "pink"}).code == 2);
}
