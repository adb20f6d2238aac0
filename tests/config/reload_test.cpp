#include "config/reload.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <set>

#include "config/keys.h"
#include "config/listeners.h"
#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;

namespace {

Config from_file(const std::string& text) {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.file = write_file(dir, text);
    return load_config(sources).value();
}

using Keys = std::vector<std::string>;

Keys changed(const std::string& before, const std::string& after) {
    return changed_keys(from_file(before), from_file(after)).value();
}

std::string refused(const std::string& before, const std::string& after) {
    const auto result = changed_keys(from_file(before), from_file(after));
    return result ? std::string{} : result.error().context;
}

// The names in the README's row of the table of section Reload.
std::set<std::string> row_of(const std::string& readme, const std::string& title) {
    const auto begin = readme.find(fmt::format("\n| {} | `", title));
    REQUIRE(begin != std::string::npos);
    const auto row = readme.substr(begin + 1, readme.find('\n', begin + 1) - begin);
    std::set<std::string> names;
    for (auto open = row.find('`'); open != std::string::npos;) {
        const auto close = row.find('`', open + 1);
        REQUIRE(close != std::string::npos);
        const auto name = row.substr(open + 1, close - open - 1);
        CAPTURE(name);
        CHECK(names.insert(name).second);  // not twice
        open = row.find('`', close + 1);
    }
    return names;
}

}  // namespace

TEST_CASE("config/reload: README puts every key into the class that it is in") {
    std::ifstream file(OPSRELAY_SOURCE_DIR "/README.md");
    const std::string readme(std::istreambuf_iterator<char>(file), {});
    const auto live = row_of(readme, "reload");
    const auto restart = row_of(readme, "restart");
    std::set<std::string> expected_live{"lanes", "upstream"};
    std::set<std::string> expected_restart;
    for (const auto& key : keys()) {
        if (key.upstream != nullptr) continue;  // always live, as a whole
        auto& expected = key.change == Change::live ? expected_live : expected_restart;
        expected.emplace(key.name);
    }
    for (const auto name : listener_key_names()) {
        auto& expected = is_live_listener_key(name) ? expected_live : expected_restart;
        expected.insert(fmt::format("listeners[].{}", name));
    }
    CHECK(live == expected_live);
    CHECK(restart == expected_restart);
}

TEST_CASE("config/reload: what changed is named, in the order of the keys") {
    CHECK(changed("", "").empty());
    CHECK(changed("",
                  "log: {level: debug}\nspool: {max_age: 1h, on_full: drop_oldest}\n"
                  "privacy: {deny_fields: [a]}\n") ==
          Keys{"spool.on_full", "spool.max_age", "privacy.deny_fields", "log.level"});
    CHECK(changed("upstream: {url: \"https://a\"}\n", "upstream: {url: \"https://b\"}\n") ==
          Keys{"upstream.url"});
}

TEST_CASE("config/reload: lanes come, go and change") {
    const std::string none = "upstream: {timeout: 3s}\n";
    const std::string one = none + "lanes: {eu: {url: \"https://eu\"}}\n";
    CHECK(changed(none, one) == Keys{"lanes.eu"});
    CHECK(changed(one, none) == Keys{"lanes.eu"});
    CHECK(changed(one, none + "lanes: {eu: {url: \"https://x\", connections: 3}}\n") ==
          Keys{"lanes.eu.url", "lanes.eu.connections"});
    CHECK(changed(one, "lanes: {eu: {url: \"https://eu\"}, default: {timeout: 3s}}\n").empty());
    CHECK(same_upstream(from_file(one).lanes.at("default"), from_file(none).lanes.at("default")));
    CHECK_FALSE(same_upstream(from_file(one).lanes.at("eu"), from_file(one).lanes.at("default")));
}

TEST_CASE("config/reload: listeners may change lane and defaults, not places") {
    const std::string lanes = "lanes: {default: , eu: }\n";
    const std::string before = lanes + "listeners: [{type: http, path: a}]\n";
    CHECK(changed(before, lanes + "listeners: [{type: http, path: a, lane: eu}]\n") ==
          Keys{"listeners[0].lane"});
    CHECK(changed(before, lanes + "listeners: [{type: http, path: a, defaults: {environment: "
                                  "dev}}]\n") == Keys{"listeners[0].defaults"});
    const auto refusal = [&](const std::string& after) {
        return refused(before, lanes + "listeners: " + after + "\n");
    };
    const std::pair<const char*, const char*> changes[] = {
        {"[]", "listeners"},
        {"[{type: http, path: a}, {type: http, path: b}]", "listeners"},
        {"[{type: http, path: b}]", "listeners[0].path"},
        {"[{type: unix_stream, path: a}]", "listeners[0].type"},
        {"[{type: http, address: \"127.0.0.1:5\"}]", "listeners[0].path, listeners[0].address"},
        {"[{type: http, path: a, mode: \"0600\", group: adm}]",
         "listeners[0].mode, listeners[0].group"},
        {"[{type: http, path: a, rate_limit: 5}]", "listeners[0].rate_limit"},
        {"[{type: http, path: a, allow_uids: [5]}]", "listeners[0].allow_uids"},
        {"[{type: http, path: a, allow_gids: [5]}]", "listeners[0].allow_gids"},
        {"[{type: http, path: a, token_file: /t}]", "listeners[0].token_file"},
    };
    for (const auto& change : changes) {
        CAPTURE(change.first);
        CHECK(refusal(change.first) ==
              fmt::format("{}: changed, which a reload cannot do; restart needed", change.second));
    }
    CHECK(refused("listeners: [{type: http, path: a}, {type: http, path: b}]\n",
                  "listeners: [{type: http, path: b}, {type: http, path: a}]\n") ==
          "listeners: changed, which a reload cannot do; restart needed");
}

TEST_CASE("config/reload: every key of a listener that is not live is compared") {
    const auto two = [](std::string_view name) {
        auto config = from_file("listeners: [{type: http, path: a}]\n");
        auto& one = config.listen.listeners.at(0);
        if (name == "type") one.kind = ListenerKind::unix_stream;
        if (name == "path") one.path = "/b";
        if (name == "address") one.port = 5;
        if (name == "mode") one.mode = 0600;
        if (name == "group") one.group = "adm";
        if (name == "allow_remote") one.allow_remote = true;
        if (name == "token_file") one.token_file = "/t";
        if (name == "allow_uids") one.allow_uids = {5};
        if (name == "allow_gids") one.allow_gids = {5};
        if (name == "rate_limit") one.rate_limit = 5;
        return config;
    };
    for (const auto name : listener_key_names()) {
        if (is_live_listener_key(name)) continue;
        CAPTURE(name);
        const auto done = changed_keys(two(""), two(name));
        REQUIRE(done.has_error());
        CHECK(done.error().context.starts_with(fmt::format("listeners[0].{}: changed", name)));
    }
}

TEST_CASE("config/reload: keys that need a restart are refused by name, all at once") {
    for (const auto& key : keys()) {
        if (key.change == Change::live) continue;
        CAPTURE(key.name);
        const auto before = from_file("");
        auto after = before;
        // Whatever its value is: another text for the same key.
        for (const auto* value :
             {"/elsewhere", "2h", "20000", "128MiB", "2MiB", "127.0.0.1:1", "/else.sock", "json"}) {
            if (key.assign(after, value)) break;
        }
        const auto result = changed_keys(before, after);
        REQUIRE(result.has_error());
        CHECK(result.error().context ==
              fmt::format("{}: changed, which a reload cannot do; restart needed", key.name));
    }
    CHECK(refused("", "dedupe: {window: 1h}\nlog: {format: json, level: debug}\n") ==
          "dedupe.window, log.format: changed, which a reload cannot do; restart needed");
}

TEST_CASE("config/reload: a spool that remembers another number of ids needs a restart") {
    CHECK(changed("", "spool: {max_bytes: 2GiB}\n") == Keys{"spool.max_bytes"});
    CHECK(refused("", "spool: {max_bytes: 128MiB}\n") ==
          "spool.max_bytes: 128MiB instead of 512MiB changes how many ids are remembered (1612800 "
          "instead of 10000000); restart needed");
}
