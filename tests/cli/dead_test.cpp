// What `dead` and `spool purge` ask for, and what they make of the answers.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <utility>

#include "cli/fake_server.h"
#include "cli/run_command.h"
#include "support/temp_dir.h"

namespace opsrelay::cli {

namespace {

/// Commands on a spool whose answers follow a script; no daemon runs.
struct World {
    Outcome operator()(std::vector<std::string> arguments) {
        arguments.insert(arguments.end(), {"--spool-dir", dir / "spool"});
        return run(arguments);
    }
    Outcome run(const std::vector<std::string>& arguments) {
        auto program = bare_program();
        program.environment = environment;
        program.open_spool = open;
        return run_command(arguments, std::move(program));
    }
    void answer(int status, std::string body) { replies.push_back({status, std::move(body)}); }

    test::TempDir dir;
    config::Environment environment{{}, true};
    std::vector<HttpReply> replies;
    std::vector<std::string> asked;  // "path body"
    std::string opened;
    OpenSpool open = [this](const config::Config& config) -> Result<Ask> {
        opened = config.spool.dir;
        return Ask([this](std::string_view path, std::string_view body) -> Result<HttpReply> {
            asked.push_back(fmt::format("{} {}", path, body));
            REQUIRE(asked.size() <= replies.size());
            return replies[asked.size() - 1];
        });
    };
};

constexpr const char* kEmpty = R"({"ok":true,"letters":[],"next":null})";

}  // namespace

TEST_CASE("cli/dead: a list asks on until it has what was wanted") {
    World world;
    world.answer(200, R"({"ok":true,"letters":[{"key":"admission-0-1"}],"next":"admission-0-9"})");
    world.answer(200, R"({"ok":true,"letters":[{"key":"upstream-0-4"}],"next":"upstream-0-4"})");
    const auto got = world({"dead", "list", "--limit", "2", "--kind", "upstream", "--reason",
                            "a\"b", "--output", "json"});
    CHECK(got.code == 0);
    CHECK(world.opened == world.dir / "spool");
    REQUIRE(world.asked.size() == 2);
    CHECK(world.asked[0] == R"(/dead/list {"kind":"upstream","reason":"a\"b","limit":2})");
    CHECK(world.asked[1] ==
          R"(/dead/list {"kind":"upstream","reason":"a\"b","after":"admission-0-9","limit":1})");
    CHECK(got.out ==
          "{\"letters\":[{\"key\":\"admission-0-1\"},{\"key\":\"upstream-0-4\"}],"
          "\"next\":\"upstream-0-4\"}\n");
}

TEST_CASE("cli/dead: an empty list, and damage, are said") {
    World world;
    world.answer(200, R"({"ok":true,"letters":[],"next":null,"damaged":2})");
    const auto got = world({"dead", "list"});
    CHECK(got.out == "no dead letters\n");
    CHECK(got.err == "opsrelay: 2 dead letters are damaged and left out\n");
}

TEST_CASE("cli/dead: values of --set are JSON, or else texts") {
    World world;
    world.answer(200, R"({"ok":true,"replayed":1,"next":null,"as_of":5,"refused":[]})");
    const auto got =
        world({"dead", "replay", "upstream-0-1", "--set", "model=gpt-4o", "--set", "inputTokens=7",
               "--set", "note=a=b", "--set", "metadata={\"x\":1}", "--set", "userId=\"12\""});
    CHECK(got.code == 0);
    CHECK(got.out == "1 put back, 0 left\n");
    REQUIRE(world.asked.size() == 1);
    CHECK(world.asked[0] ==
          R"(/dead/replay {"keys":["upstream-0-1"],"set":{"model":"gpt-4o","inputTokens":7,)"
          R"("note":"a=b","metadata":{"x":1},"userId":"12"}})");
    CHECK(world({"dead", "replay", "k", "--set", "model"}).err ==
          "opsrelay: --set model: write it as field=value\n");
}

TEST_CASE("cli/dead: all are put back page by page; what is left is told, and the exit code is 1") {
    World world;
    world.answer(200, R"({"ok":true,"replayed":3,"next":"upstream-0-3","as_of":77,"refused":[]})");
    std::string refused;
    for (int i = 0; i < 22; ++i) {
        refused += fmt::format(R"({}{{"key":"upstream-0-{}","message":"bad_tokens: no"}})",
                               refused.empty() ? "" : ",", i + 4);
    }
    world.answer(200,
                 R"({"ok":true,"replayed":1,"next":null,"as_of":77,"refused":[)" + refused + "]}");
    const auto got = world({"dead", "replay", "--all", "--lane", "default"});
    CHECK(got.code == 1);
    CHECK(got.out == "4 put back, 22 left\n");
    CHECK(got.err.starts_with("opsrelay: upstream-0-4: bad_tokens: no\n"));
    CHECK(got.err.ends_with("opsrelay: upstream-0-23: bad_tokens: no\nopsrelay: and 2 more\n"));
    CHECK(world.asked[1] ==
          R"(/dead/replay {"lane":"default","all":true,"after":"upstream-0-3","as_of":77})");
}

TEST_CASE("cli/dead: many keys go in several requests") {
    World world;
    std::vector<std::string> arguments{"dead", "purge", "--yes"};
    for (int i = 0; i < 1001; ++i) arguments.push_back(fmt::format("upstream-0-{}", i));
    world.answer(200, R"({"ok":true,"purged":1000,"next":null,"as_of":1})");
    world.answer(200, R"({"ok":true,"purged":1,"next":null,"as_of":1})");
    CHECK(world(arguments).out == "1001 purged\n");
    CHECK(world.asked[1] == R"(/dead/purge {"keys":["upstream-0-1000"],"as_of":1})");
}

TEST_CASE("cli/dead: what could be meant otherwise is refused before anything is asked") {
    World world;
    struct Case {
        std::vector<std::string> arguments;
        const char* complaint;
    };
    const Case cases[] = {
        {{"dead", "purge", "--all"}, "Repeat with --yes"},
        {{"dead", "purge", "--yes"}, "give keys, or --all"},
        {{"dead", "purge", "k", "--all", "--yes"}, "give keys, or --all"},
        {{"dead", "purge", "k", "--kind", "upstream", "--yes"}, "go with --all"},
        {{"dead", "replay"}, "give keys, or --all"},
        {{"dead", "show"}, "required"},
        {{"dead", "export", "--format", "xml"}, "--format: write ndjson or csv\n"},
        {{"spool", "purge", "--lane", "x"}, "Repeat with --yes"},
        {{"spool", "purge", "--yes"}, "--lane is required"},
    };
    for (const auto& test : cases) {
        const auto got = world(test.arguments);
        CAPTURE(got.err);
        CAPTURE(test.complaint);
        CHECK(got.code == 2);
        CHECK(got.err.find(test.complaint) != std::string::npos);
    }
    CHECK(world.asked.empty());
}

TEST_CASE("cli/dead: refusals are told with their message") {
    World world;
    world.answer(404, R"({"ok":false,"reason":"not_found","message":"there is no dead letter k"})");
    auto got = world({"dead", "show", "k"});
    CHECK(got.code == 1);
    CHECK(got.err == "opsrelay: there is no dead letter k\n");
    world.answer(400, R"({"ok":false,"reason":"bad_request","message":"kind must be"})");
    CHECK(world({"dead", "list", "--kind", "x"}).code == 2);
    world.answer(503, "<html>");
    got = world({"dead", "list"});
    CHECK(got.code == 1);
    CHECK(got.err.find("HTTP 503 without a JSON object") != std::string::npos);
}

TEST_CASE("cli/dead: the daemon is asked when there is one, and the spool only where it is known") {
    World world;
    const auto socket = world.dir / "admin.sock";
    FakeServer server(socket, {[](int) {}, http_answer(http_reply(200, kEmpty))});
    auto got = world.run({"dead", "list", "--run-dir", world.dir.path()});
    server.join();
    CHECK(got.out == "no dead letters\n");
    CHECK(world.opened.empty());
    got = world.run({"dead", "list", "--run-dir", world.dir / "elsewhere"});
    CHECK(got.code == 1);
    CHECK(got.err.find("the daemon does not answer; tried connect " + (world.dir / "elsewhere")) !=
          std::string::npos);
    CHECK(got.err.find("--spool-dir") != std::string::npos);
    CHECK(world.opened.empty());
    world.open = [](const config::Config&) -> Result<Ask> {
        return Error{Errc::spool_locked, "spool /x: another process has it open"};
    };
    got = world({"dead", "list"});
    CHECK(got.code == 3);
}

TEST_CASE("cli/spool_purge: the lane, and whether it may be a configured one") {
    World world;
    world.answer(200, R"({"ok":true,"purged":12})");
    CHECK(world({"spool", "purge", "--lane", "europe", "--yes"}).out ==
          "12 records of lane europe purged\n");
    world.answer(200, R"({"ok":true,"purged":0})");
    CHECK(world({"spool", "purge", "--lane", "a\"", "--yes", "--configured", "--output", "json"})
              .out == "{\"purged\":0}\n");
    CHECK(world.asked[0] == R"(/spool/purge {"lane":"europe","configured":false})");
    CHECK(world.asked[1] == R"(/spool/purge {"lane":"a\"","configured":true})");
}

}  // namespace opsrelay::cli
