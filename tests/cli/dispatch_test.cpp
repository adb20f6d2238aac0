#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "cli/fake_server.h"
#include "cli/run_command.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;

namespace {

/// Runs command lines with their own streams, no environment and no default file.
class Shell {
public:
    Outcome operator()(const std::vector<std::string>& arguments, int in = -1) {
        auto program = bare_program();
        program.in = in;
        program.in_is_terminal = in < 0;
        program.environment = environment;
        program.run = run;
        program.open_spool = open_spool;
        program.try_files = [this](const config::Config&) { return files; };
        return run_command(arguments, std::move(program));
    }

    config::Environment environment{{}, true};
    RunDaemon run = [](const config::Config&, const LoadConfig&) { return 0; };
    OpenSpool open_spool;
    FilesReport files;
};

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

// Settles each line as durable until the sender half-closes.
void settle_all(int fd) {
    static_cast<void>(read_line(fd));
    std::uint64_t durable = 0;
    for (auto line = read_line(fd); !line.empty(); line = read_line(fd)) {
        write_text(fd, fmt::format("{{\"durable\":{},\"rejected\":0}}\n", ++durable));
    }
}

}  // namespace

TEST_CASE("cli/cli: usage errors exit with 2 and say what was meant") {
    struct Case {
        const char* name;
        std::vector<std::string> arguments;
        const char* complaint;
    };
    const Case cases[] = {
        {"nothing", {}, "opsrelay: a command is missing"},
        {"unknown command", {"statsu"}, "unknown command statsu; did you mean status?"},
        {"nothing like it", {"xyzzyxyzzy"}, "unknown command xyzzyxyzzy\n"},
        {"unknown flag",
         {"run", "--spool-dri", "/x"},
         "opsrelay run: unknown argument --spool-dri; did you mean --spool-dir?"},
        {"flag without value", {"run", "--config"}, "opsrelay run: --config"},
        {"a count of nothing", {"tail", "-n", "0"}, "--count"},
        {"a negative count", {"tail", "-n", "-1"}, "--count"},
        {"bad output", {"version", "--output", "xml"}, "write text or json"},
        {"contradiction", {"status", "--ready", "--live"}, "--live"},
        {"two sources", {"send", "{}", "--file", "x"}, "--file"},
        {"bad timeout", {"send", "--timeout", "5", "{}"}, "--timeout: \"5\" is not a duration"},
        {"no events", {"send"}, "no events: give them as arguments"},
        {"no command of a group", {"dead"}, "opsrelay dead: "},
        {"unknown command of a group",
         {"dead", "lits"},
         "opsrelay dead: unknown command lits; did you mean list?"},
        {"unknown flag in a group",
         {"dead", "list", "--limt", "3"},
         "opsrelay dead list: unknown argument --limt; did you mean --limit?"},
        {"bad port", {"run", "--http-port", "99999"}, "--http-port: 99999 is outside [0, 65535]"},
        {"no such file", {"check", "--config", "/nonexistent/x"}, "/nonexistent/x: No such file"},
    };
    Shell shell;
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto outcome = shell(test.arguments);
        CHECK(outcome.code == 2);
        CHECK(outcome.out.empty());
        CAPTURE(outcome.err);
        CHECK(has(outcome.err, test.complaint));
    }
}

TEST_CASE("cli/cli: help is complete and has examples") {
    Shell shell;
    for (const std::string command :
         {"run", "check", "send", "status", "dead", "spool", "version"}) {
        CAPTURE(command);
        const auto outcome = shell({command, "--help"});
        CHECK(outcome.code == 0);
        CHECK(has(outcome.out, "Examples:"));
        CHECK(has(outcome.out, "opsrelay " + command));
        CHECK(has(shell({"--help"}).out, command));
    }
}

TEST_CASE("cli/version: text and JSON") {
    Shell shell;
    const auto text = shell({"version"});
    CHECK(text.code == 0);
    CHECK(text.out.starts_with("opsrelay "));
    CHECK(has(text.out, "\nrocksdb "));
    CHECK(shell({"version", "--output", "json"}).out.starts_with("{\"version\":\""));
}

TEST_CASE("cli/run: the configuration reaches the daemon, the directories are made") {
    const test::TempDir dir;
    Shell shell;
    config::Config got;
    shell.run = [&got](const config::Config& config, const LoadConfig& again) {
        CHECK(again().value().run_dir == config.run_dir);
        got = config;
        return 6;
    };
    const auto outcome =
        shell({"run", "--run-dir", dir / "a/run", "--spool-dir", dir / "spool", "--http-port", "0",
               "--udp-port", "off", "--admin-port", "0", "--log-level", "error"});
    CHECK(outcome.code == 6);
    CHECK(got.run_dir == dir / "a/run");
    CHECK(got.admin.port == 0);
    CHECK(got.listen.listeners.size() == 4);
    struct stat status {};
    REQUIRE(::stat((dir / "a/run").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0755);
    REQUIRE(::stat((dir / "spool").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0700);
}

TEST_CASE("cli/run: a directory that cannot be used has its own exit code and next step") {
    const test::TempDir dir;
    std::ofstream(dir / "file") << "x";
    Shell shell;
    const auto spool = shell(
        {"run", "--log-level", "error", "--run-dir", dir / "run", "--spool-dir", dir / "file"});
    CHECK(spool.code == 4);
    CHECK(has(spool.err, "spool.dir: "));
    CHECK(has(spool.err, "Not a directory; choose another one with --spool-dir"));
    const auto run = shell({"run", "--log-level", "error", "--run-dir", dir / "file/run",
                            "--spool-dir", dir / "spool"});
    CHECK(run.code == 1);
    CHECK(has(run.err, "choose another one with --run-dir"));
}

TEST_CASE("cli/check: prints the effective configuration, secrets masked") {
    const test::TempDir dir;
    Shell shell;
    shell.environment.variables["OPSRELAY_API_KEY"] = "sk-secret";
    const auto text = shell({"check", "--run-dir", dir / "run"});
    CHECK(text.code == 0);
    CHECK(has(text.out, fmt::format("run_dir: \"{}\"\n", dir / "run")));
    CHECK(has(text.out, "***"));
    CHECK(has(text.err, "warning: OPSRELAY_API_KEY"));
    CHECK_FALSE(has(text.out + text.err, "sk-secret"));
    CHECK(::access((dir / "run").c_str(), F_OK) != 0);

    Shell other;
    other.files = {std::nullopt, {"api_key_file: no such file"}};
    const auto json = other({"check", "--output", "json"});
    CHECK(json.code == 0);
    CHECK(has(json.out, "api_key_file: no such file"));
    other.files = {Error{Errc::config_invalid, "ca_file: no certificate"}, {}};
    const auto unusable = other({"check"});
    CHECK(unusable.code == 2);
    CHECK(unusable.err == "opsrelay: ca_file: no certificate\n");

    std::ofstream(dir / "bad.yaml") << "spool:\n  max_byte: 1GiB\n";
    const auto bad = other({"check", "--config", dir / "bad.yaml"});
    CHECK(bad.code == 2);
    CHECK(has(bad.err, "bad.yaml:2:3: spool.max_byte: unknown key; did you mean spool.max_bytes?"));
}

TEST_CASE("cli/send: events from arguments, a file and standard input") {
    const test::TempDir dir;
    std::ofstream(dir / "events") << "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n";
    Shell shell;
    FakeServer server(dir / "telemetry.stream.sock", {settle_all, settle_all, settle_all});
    const auto arguments = shell({"send", "--run-dir", dir.path(), "{\"a\":1}", "{\"a\":2}"});
    CHECK(arguments.code == 0);
    CHECK(arguments.out == "2 events: 2 durable, 0 rejected, 0 unconfirmed\n");
    const auto file = shell({"send", "--socket", dir / "telemetry.stream.sock", "--file",
                             dir / "events", "--output", "json"});
    CHECK(file.code == 0);
    CHECK(file.out ==
          "{\"events\":3,\"durable\":3,\"rejected\":0,\"unconfirmed\":0,\"reconnects\":0,"
          "\"complete\":true,\"failure\":null}\n");
    int ends[2] = {-1, -1};
    REQUIRE(::pipe(ends) == 0);
    const UniqueFd in(ends[0]);
    {
        const UniqueFd writing(ends[1]);
        REQUIRE(::write(writing.get(), "{\"a\":9}\n", 8) == 8);
    }
    const auto piped = shell({"send", "--run-dir", dir.path(), "--quiet"}, in.get());
    CHECK(piped.code == 0);
    CHECK(piped.out.empty());
    server.join();
}

TEST_CASE("cli/send: what is not durable is a failure with counts") {
    const test::TempDir dir;
    Shell shell;
    const auto reject = [](int fd) {
        static_cast<void>(read_line(fd));
        static_cast<void>(read_line(fd));
        write_text(fd, "{\"durable\":0,\"rejected\":1}\n");
    };
    FakeServer server(dir / "telemetry.stream.sock", {reject});
    const auto rejected = shell({"send", "--run-dir", dir.path(), "{}"});
    server.join();
    CHECK(rejected.code == 1);
    CHECK(rejected.err == "opsrelay: 1 rejected: `opsrelay dead list --kind admission` says why\n");
    CHECK(rejected.out == "1 event: 0 durable, 1 rejected, 0 unconfirmed\n");
    const auto nobody = shell({"send", "--socket", dir / "none", "--retries", "0", "{}"});
    CHECK(nobody.code == 1);
    CHECK(has(nobody.err, "none: No such file or directory; is the daemon running?"));
    CHECK(has(nobody.out, "1 unconfirmed"));
    CHECK(shell({"send", "--file", dir / "absent", "--run-dir", dir.path()}).code == 1);
}

TEST_CASE("cli/status: table, JSON and probes") {
    const test::TempDir dir;
    const std::string body = R"({"version":"9","ready":true})";
    FakeServer server(dir / "admin.sock",
                      {http_answer(http_reply(200, body)), http_answer(http_reply(200, body)),
                       http_answer(http_reply(200, R"({"ready":true})")),
                       http_answer(http_reply(503, R"({"reasons":["spool full","starting"]})")),
                       http_answer(http_reply(200, "ok")), http_answer(http_reply(500, "no"))});
    Shell shell;
    const auto ask = [&](std::vector<std::string> more) {
        std::vector<std::string> all{"status", "--run-dir", dir.path()};
        all.insert(all.end(), more.begin(), more.end());
        return shell(all);
    };
    CHECK(ask({}).out == "opsrelay 9: ready\n");
    CHECK(ask({"--output", "json"}).out == body + "\n");
    CHECK(ask({"--ready"}).out == "ready\n");
    const auto not_ready = ask({"--ready"});
    CHECK(not_ready.code == 1);
    CHECK(not_ready.out == "not ready\nspool full\nstarting\n");
    CHECK(ask({"--live"}).code == 0);
    CHECK(ask({}).code == 1);
    CHECK(server.join() == 6);
}

TEST_CASE("cli/status: an unreachable daemon, with all that was tried and the next step") {
    const test::TempDir dir;
    Shell shell;
    const auto given = shell({"status", "--run-dir", dir.path()});
    CHECK(given.code == 1);
    CHECK(has(given.err, "tried connect " + dir.path() + "/admin.sock: No such file or directory"));
    CHECK(has(given.err, "start it with `opsrelay run`"));
    CHECK_FALSE(has(given.err, "8711"));  // another daemon's, perhaps
    std::ofstream(dir / "c.yaml") << "run_dir: " << dir.path() << "\nadmin: {socket: other.sock, "
                                  << "address: off}\n";
    const auto config = shell({"status", "--config", dir / "c.yaml"});
    CHECK(config.code == 1);
    CHECK(has(config.err, dir / "other.sock"));
}
