// What `pause`, `resume`, `flush` and `reload` ask for, and what they make of the answers.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sys/socket.h>

#include <filesystem>

#include "cli/fake_server.h"
#include "cli/run_command.h"
#include "support/temp_dir.h"

namespace opsrelay::cli {

namespace {

/// A daemon whose answers follow a script, and commands that find it by its run directory.
struct World {
    // A command looks whether somebody is there before it asks.
    FakeServer serve(const std::vector<std::string>& bodies, int status = 200) const {
        std::filesystem::remove(dir / "admin.sock");  // of the one before
        std::vector<FakeServer::Handler> handlers{[](int) {}};
        for (const auto& body : bodies) handlers.push_back(http_answer(http_reply(status, body)));
        return {dir / "admin.sock", std::move(handlers)};
    }
    Outcome operator()(std::vector<std::string> arguments) const {
        arguments.insert(arguments.end(), {"--run-dir", dir.path()});
        return run_command(arguments);
    }

    test::TempDir dir;
};

constexpr const char* kEnds = R"({"ok":true,"ends":{"default":8,"europe":3}})";

}  // namespace

TEST_CASE("cli/pause: the lanes that were paused or resumed are named") {
    const World world;
    auto server = world.serve({R"({"ok":true,"lanes":["default","europe"]})"});
    const auto paused = world({"pause"});
    CHECK(paused.code == 0);
    CHECK(paused.out == "paused: default, europe\n");
    server.join();
    auto again = world.serve({R"({"ok":true,"lanes":["europe"]})"});
    CHECK(world({"resume", "--lane", "europe", "--output", "json"}).out ==
          "{\"paused\":false,\"lanes\":[\"europe\"]}\n");
    again.join();
}

TEST_CASE("cli/pause: a refusal is told, and is exit code 1") {
    const World world;
    auto server =
        world.serve({R"({"ok":false,"reason":"not_found","message":"no such lane"})"}, 404);
    const auto refused = world({"pause", "--lane", "x"});
    CHECK(refused.code == 1);
    CHECK(refused.err == "opsrelay: no such lane\n");
    server.join();
}

TEST_CASE("cli/flush: it looks again until nothing is left") {
    const World world;
    auto server = world.serve({kEnds, R"({"ok":true,"left":{"default":2,"europe":0}})",
                               R"({"lanes":[{"name":"default","state":"active"}]})",
                               R"({"ok":true,"left":{"default":0,"europe":0}})"});
    const auto done = world({"flush", "--timeout", "1h"});
    CHECK(done.code == 0);
    CHECK(done.out == "everything accepted before has its outcome\n");
    CHECK(server.join() == 5);
}

TEST_CASE("cli/flush: what is left when the time is over is told, with the reason") {
    const World world;
    auto server =
        world.serve({kEnds, R"({"ok":true,"left":{"default":0,"europe":2}})",
                     R"({"lanes":[{"name":"europe","state":"unauthorized","last_error":"HTTP 401",)"
                     R"("next":"put a key"}]})"});
    const auto left = world({"flush", "--timeout", "0s"});
    CHECK(left.code == 1);
    CHECK(left.out.empty());
    CHECK(left.err == "opsrelay: lane europe: 2 events left, unauthorized: HTTP 401; put a key\n");
    server.join();
}

TEST_CASE("cli/flush: only paused lanes are not waited for") {
    const World world;
    auto server =
        world.serve({kEnds, R"({"ok":true,"left":{"default":0,"europe":2}})",
                     R"({"lanes":[{"name":"europe","state":"paused","last_error":"HTTP 400"}]})"});
    const auto left = world({"flush", "--timeout", "1h", "--output", "json"});
    CHECK(left.code == 1);
    CHECK(left.out ==
          "{\"empty\":false,\"lanes\":[{\"name\":\"europe\",\"left\":2,\"deferred\":0,"
          "\"state\":\"paused\",\"last_error\":\"HTTP 400\"}]}\n");
    server.join();
    auto again = world.serve({kEnds, R"({"ok":true,"left":{"default":0,"europe":2}})",
                              R"({"lanes":[{"name":"europe","state":"paused",)"
                              R"("last_error":"HTTP 400","next":"resume it"}]})"});
    const auto told = world({"flush", "--timeout", "1h"});
    CHECK(told.err == "opsrelay: lane europe: 2 events left, paused by an operator; resume it\n");
    again.join();
}

TEST_CASE(
    "cli/flush: what a lane holds that is not configured any more is left, and not waited for") {
    const World world;
    auto server = world.serve({kEnds, R"({"ok":true,"left":{"default":0,"europe":2}})",
                               R"({"lanes":[{"name":"europe","state":"not_configured",)"
                               R"("last_error":null,"next":"purge it"}]})"});
    const auto left = world({"flush", "--timeout", "1h"});
    CHECK(left.code == 1);
    CHECK(left.err == "opsrelay: lane europe: 2 events left, not_configured; purge it\n");
    server.join();
}

TEST_CASE("cli/flush: deferred events that were tried are not waited for, others are") {
    const World world;
    constexpr const char* kStatus =
        R"({"lanes":[{"name":"default","state":"active","last_error":"HTTP 500","next":"on"}]})";
    auto server =
        world.serve({kEnds, R"({"ok":true,"left":{"default":3},"resting":{"default":1}})", kStatus,
                     R"({"ok":true,"left":{"default":1},"resting":{"default":1}})", kStatus});
    const auto left = world({"flush", "--timeout", "1h"});
    CHECK(left.code == 1);
    CHECK(left.err ==
          "opsrelay: lane default: 1 events left (1 of them deferred), active: HTTP 500; on\n");
    CHECK(server.join() == 6);
}

TEST_CASE("cli/flush: a daemon that says nothing is waited for until the timeout") {
    const World world;
    std::filesystem::remove(world.dir / "admin.sock");
    FakeServer server(world.dir / "admin.sock", {[](int) {},
                                                 [](int fd) {
                                                     char bytes[256];
                                                     while (::recv(fd, bytes, sizeof bytes, 0) > 0)
                                                         continue;
                                                 }});
    const auto silent = world({"flush", "--timeout", "100ms"});
    CHECK(silent.code == 1);
    CHECK(silent.err.find("no answer in time; the daemon may be waiting") != std::string::npos);
    CHECK(server.join() == 2);
}

TEST_CASE("cli/flush: an answer that is none, and no daemon at all, are failures") {
    const World world;
    auto server = world.serve({kEnds, R"({"ok":true})"});
    const auto odd = world({"flush"});
    CHECK(odd.code == 1);
    CHECK(odd.err.find("not from this version") != std::string::npos);
    server.join();
    std::filesystem::remove(world.dir / "admin.sock");
    const auto absent = world({"flush"});
    CHECK(absent.code == 1);
    CHECK(absent.err.find("the daemon does not answer") != std::string::npos);
    CHECK(world({"flush", "--timeout", "soon"}).code == 2);
}

TEST_CASE("cli/reload: what changed is told") {
    const World world;
    auto server = world.serve({R"({"ok":true,"changed":["lanes.europe","log.level"]})"});
    CHECK(world({"reload"}).out == "reloaded: lanes.europe, log.level\n");
    server.join();
    auto same = world.serve({R"({"ok":true,"changed":[]})"});
    CHECK(world({"reload"}).out == "reloaded: nothing changed\n");
    same.join();
    auto json = world.serve({R"({"ok":true,"changed":["log.level"]})"});
    CHECK(world({"reload", "--output", "json"}).out == "{\"changed\":[\"log.level\"]}\n");
    json.join();
}

TEST_CASE("cli/reload: a configuration that is refused is exit code 2, a spool that is, 1") {
    const World world;
    auto wrong = world.serve({R"({"ok":false,"message":"x.yaml:1:1: spol: unknown key"})"}, 400);
    const auto refused = world({"reload"});
    CHECK(refused.code == 2);
    CHECK(refused.err == "opsrelay: x.yaml:1:1: spol: unknown key\n");
    wrong.join();
    auto full = world.serve({R"({"ok":false,"message":"make lane europe: no space"})"}, 503);
    CHECK(world({"reload"}).code == 1);
    full.join();
}

}  // namespace opsrelay::cli
