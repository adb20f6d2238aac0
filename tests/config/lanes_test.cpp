#include "config/lanes.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "config/sources.h"
#include "spool/options.h"

using namespace opsrelay;
using namespace opsrelay::config;

namespace {

constexpr const char* kTwo =
    "lanes:\n"
    "  europe: {url: \"https://eu.test\", api_key_file: /run/eu, connections: 2}\n"
    "  default: {url: \"https://us.test\", api_key_file: /run/us}\n"
    "listeners:\n"
    "  - {type: unix_stream, path: a.sock}\n"
    "  - {type: http, path: b.sock, lane: europe}\n";

Result<Config> from_file(const std::string& text, Sources sources = bare_sources()) {
    const test::TempDir dir;
    sources.file = write_file(dir, text);
    return load_config(sources);
}

}  // namespace

TEST_CASE("config/lanes: each lane has settings of its own, each listener its lane") {
    const auto config = from_file(kTwo).value();
    REQUIRE(config.lanes.size() == 2);
    CHECK(config.lanes.at("europe").url == "https://eu.test");
    CHECK(config.lanes.at("europe").connections == 2);
    CHECK(config.lanes.at("default").url == "https://us.test");
    CHECK(config.lanes.at("default").connections == 8);
    REQUIRE(config.listen.listeners.size() == 2);
    CHECK(config.listen.listeners[0].lane.name == "default");
    CHECK(config.listen.listeners[1].lane.name == "europe");
    CHECK(config.warnings.empty());
}

TEST_CASE("config/lanes: upstream is short for the lane default, which others may stand beside") {
    const auto config =
        from_file("upstream: {url: \"https://us.test\"}\nlanes: {europe: }\n").value();
    REQUIRE(config.lanes.size() == 2);
    CHECK(config.lanes.at("default").url == "https://us.test");
    CHECK(config.lanes.at("europe").url == "https://api.opsmeter.io");
    REQUIRE(config.warnings.size() == 2);  // neither has a key
    CHECK(config.warnings[0].find("upstream.api_key_file") != std::string::npos);
    CHECK(config.warnings[1].find("lanes.europe.api_key_file") != std::string::npos);
}

TEST_CASE("config/lanes: variables and flags of upstream are for the lane default") {
    auto sources = bare_sources();
    sources.environment.variables["OPSRELAY_UPSTREAM__URL"] = "https://variable.test";
    sources.flags.api_key_file = "/run/flag";
    const auto config = from_file(kTwo, sources).value();
    CHECK(config.lanes.at("default").url == "https://variable.test");
    CHECK(config.lanes.at("default").api_key_file == "/run/flag");
    CHECK(config.lanes.at("europe").url == "https://eu.test");
    CHECK(from_file("lanes: {europe: }\nlisteners: []\n").value().lanes.count("default") == 0);
}

TEST_CASE("config/lanes: what is refused, with place and the nearest known") {
    std::string many = "lanes:\n";
    for (std::size_t i = 0; i <= spool::kLanesMax; ++i) many += fmt::format("  lane{}:\n", i);
    struct Case {
        const char* name;
        std::string text;
        const char* complaint;
    };
    const Case cases[] = {
        {"no map", "lanes: [europe]\n",
         ":1:8: lanes: must be a map from a lane's name to its upstream"},
        {"lane without a map", "lanes: {europe: \"https://x\"}\n",
         ":1:17: lanes.europe: must be a map of keys"},
        {"unknown key", "lanes:\n  europe:\n    ulr: x\n",
         ":3:5: lanes.europe.ulr: unknown key; did you mean lanes.europe.url?"},
        {"bad value", "lanes:\n  europe: {connections: 65}\n",
         ":2:25: lanes.europe.connections: 65 is outside [1, 64]"},
        {"no value", "lanes: {europe: {timeout: null}}\n",
         ":1:27: lanes.europe.timeout: needs one value"},
        {"name in capitals", "lanes: {Europe: }\n",
         ":1:9: lanes: \"Europe\" is no name for a lane; it has 1 to 32 of a-z, 0-9, - and _, and "
         "begins with none of -"},
        {"long name", "lanes: {" + std::string(33, 'a') + ": }\n",
         ":1:9: lanes: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" is no name for a lane; it has 1 to 32 "
         "of a-z, 0-9, - and _, and begins with none of -"},
        {"both", "upstream:\n  url: \"https://x\"\nlanes:\n  default:\n",
         ":4:3: lanes.default: line 1 and line 4 set the same lane, for which upstream is short; "
         "keep one of them"},
        {"the other way round", "lanes:\n  default:\nupstream:\n  url: \"https://x\"\n",
         ":3:1: lanes.default: line 3 and line 2 set the same lane, for which upstream is short; "
         "keep one of them"},
        {"listener", "lanes: {europe: }\nlisteners:\n  - {type: http, path: a, lane: europ}\n",
         ":3:33: listeners[0].lane: there is no lane \"europ\"; did you mean europe?"},
        {"listener without a lane", "lanes: {europe: }\nlisteners: [{type: http, path: a}]\n",
         ":2:13: listeners[0].lane: there is no lane \"default\"; there are europe"},
        {"plaintext", "lanes:\n  default:\n  eu: {url: \"http://x.test\"}\n",
         "lanes.eu.url: http://x.test would send the API key unencrypted; use https:// or set "
         "lanes.eu.allow_plaintext: true"},
        {"too many", many + "listeners: []\n", "lanes: there are 17, at most 16 are allowed"},
        {"more connections than there is memory for",
         "lanes: {a: {connections: 64}, b: {connections: 64}, c: {connections: 64}}\n"
         "listeners: []\n",
         "memory.max_bytes: 64MiB is too little for 10000000 ids (dedupe.max_ids), "
         "memory.stall_buffer 8MiB and 3 lanes with 192 connections; at least 70MiB"},
        {"misspelt", "lane: {europe: }\n", ":1:1: lane: unknown key; did you mean lanes?"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(complaint(test.text) == test.complaint);
    }
    auto sources = bare_sources();
    sources.environment.variables["OPSRELAY_LANES__EUROPE__URL"] = "https://x";
    CHECK(load_config(sources).error().context ==
          "OPSRELAY_LANES__EUROPE__URL: lists and maps are read from the file only; see --config");
}

TEST_CASE("config/lanes: several lanes are shown as a map, and read again") {
    const auto config = from_file(kTwo).value();
    const auto yaml = to_yaml(config);
    CHECK(yaml.starts_with("lanes:\n  \"default\":\n    kind: opsmeter\n"));
    CHECK(yaml.find("\n  \"europe\":\n") != std::string::npos);
    CHECK(yaml.find("lane: \"europe\"") != std::string::npos);
    CHECK(to_yaml(from_file(yaml).value()) == yaml);
    const auto json = to_json(config);
    CHECK(json.starts_with("{\"config\":{\"lanes\":{\"default\":{\"kind\":\"opsmeter\","));
    CHECK(json.find("\"europe\":{\"kind\"") != std::string::npos);
}
