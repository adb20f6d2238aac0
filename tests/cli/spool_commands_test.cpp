#include <doctest/doctest.h>
#include <fmt/format.h>
#include <rapidjson/document.h>

#include <filesystem>
#include <fstream>

#include "cli/run_command.h"
#include "spool/rocks_store.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;

namespace {

namespace fs = std::filesystem;

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// A closed spool with two events, "e-0" and "e-1".
struct Spool {
    test::TempDir temp;
    std::string dir = temp / "spool";

    Spool() {
        const auto store = open();
        spool::Segment segment;
        segment.payload = R"({"externalRequestId":"e-0"})"
                          "\n"
                          R"({"externalRequestId":"e-1"})"
                          "\n";
        segment.count = 2;
        segment.received_unix_ms = 1'700'000'000'000;
        segment.id_clock_ms = 1'700'000'000'000;
        segment.ids = {{1, 1}, {2, 2}};
        REQUIRE(store->commit(std::span(&segment, 1), {}).has_value());
        store->close();
    }
    [[nodiscard]] std::unique_ptr<spool::Store> open() const {
        spool::Options options;
        options.dir = dir;
        return spool::open_rocks_store(options).value();
    }
    [[nodiscard]] Outcome operator()(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), "spool");
        arguments.insert(arguments.end(), {"--spool-dir", dir});
        return run_command(arguments);
    }
    void move_aside() const {
        for (const auto& entry : fs::directory_iterator(dir + "/db")) {
            if (entry.path().filename().string().starts_with("MANIFEST")) fs::remove(entry.path());
        }
        open()->close();
    }
};

}  // namespace

TEST_CASE("cli/spool: a command of the group is needed; help has examples and exit codes") {
    CHECK(run_command({"spool"}).code == 2);
    const auto help = run_command({"spool", "--help"});
    CHECK(help.code == 0);
    for (const auto* const name : {"stat", "verify", "export", "repair", "Exit codes"}) {
        CHECK(has(help.out, name));
    }
    CHECK(has(run_command({"spool", "repair", "--help"}).out, "--write"));
}

TEST_CASE("cli/spool: no spool is exit 4, an open one exit 3, each with what to do") {
    const Spool spool;
    const auto none = run_command({"spool", "stat", "--spool-dir", spool.temp / "none"});
    CHECK(none.code == 4);
    CHECK(has(none.err, "--spool-dir"));
    const auto store = spool.open();
    for (const auto* const command : {"stat", "verify", "export", "repair"}) {
        CAPTURE(command);
        const auto locked = spool({command});
        CHECK(locked.code == 3);
        CHECK(has(locked.err, "opsrelay status"));
    }
}

TEST_CASE("cli/spool: stat as text and JSON") {
    const Spool spool;
    const auto text = spool({"stat"});
    CHECK(text.code == 0);
    CHECK(has(text.out, "lane 0 default: 2 records, oldest 2023-11-14T22:13:20Z"));
    const auto json = spool({"stat", "--output", "json"});
    rapidjson::Document document;
    REQUIRE_FALSE(document.Parse(json.out.c_str()).HasParseError());
    CHECK(document["lanes"][0]["records"].GetInt() == 2);
    CHECK(document["ids"].GetInt() == 2);
    CHECK(document["trouble"].IsNull());
}

TEST_CASE("cli/spool: verify is 0 when clean, 1 when something is damaged, which it names") {
    const Spool spool;
    const auto clean = spool({"verify"});
    CHECK(clean.code == 0);
    CHECK(has(clean.out, "clean: "));
    CHECK(clean.err.empty());
    std::ofstream(spool.dir + "/db/CURRENT") << "nonsense";
    const auto damaged = spool({"verify", "--output", "json"});
    CHECK(damaged.code == 1);
    rapidjson::Document document;
    REQUIRE_FALSE(document.Parse(damaged.out.c_str()).HasParseError());
    CHECK(document["damaged"].GetInt() > 0);
    CHECK(has(damaged.out, "CURRENT"));
}

TEST_CASE("cli/spool: export to standard output and to a new file, one lane or all") {
    const Spool spool;
    constexpr const char* kBoth =
        "{\"externalRequestId\":\"e-0\"}\n{\"externalRequestId\":\"e-1\"}\n";
    CHECK(spool({"export"}).out == kBoth);
    CHECK(spool({"export", "--lane", "default"}).out == kBoth);
    CHECK(spool({"export", "--lane", "0"}).out == kBoth);
    CHECK(run_command({"spool", "export", "--from", spool.dir + "/db"}).out == kBoth);
    const auto file = spool.temp / "events.ndjson";
    CHECK(spool({"export", "--output-file", file}).code == 0);
    CHECK(fs::file_size(file) == std::string_view(kBoth).size());
    const auto again = spool({"export", "--output-file", file});
    CHECK(again.code == 1);
    CHECK(has(again.err, "File exists"));
}

TEST_CASE("cli/spool: export of a lane that is not there says which there are") {
    const Spool spool;
    const auto file = spool.temp / "events.ndjson";
    for (const auto& got : {spool({"export", "--lane", "nope", "--output-file", file}),
                            run_command({"spool", "export", "--lane", "nope", "--from",
                                         spool.dir + "/db", "--output-file", file})}) {
        CHECK(got.code == 2);
        CHECK(got.out.empty());
        CHECK(got.err == "opsrelay: lane \"nope\" is not there; there are: default\n");
        CHECK_FALSE(fs::exists(file));
    }
}

TEST_CASE("cli/spool: repair says what it would do, does it when told, and only once") {
    const Spool spool;
    CHECK(spool({"repair"}).out == "nothing to repair\n");
    spool.move_aside();
    CHECK(spool({"export"}).out.empty());
    const auto plan = spool({"repair"});
    CHECK(plan.code == 0);
    CHECK(has(plan.out, "2 records and 0 dead letters would be looked through"));
    CHECK(has(plan.out, "add --write"));
    CHECK(spool({"export"}).out.empty());
    const auto done = spool({"repair", "--write"});
    CHECK(done.code == 0);
    CHECK(has(done.out, "2 taken back, 0 known already\n  0 dead letters: 0 taken back, "));
    CHECK(has(spool({"export"}).out, "e-1"));
    CHECK(spool({"repair", "--write"}).out == "nothing to repair\n");
}
