#include "config/listeners.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;

namespace {

std::string list(std::string_view items) { return fmt::format("listeners: [{}]\n", items); }

}  // namespace

TEST_CASE("config/listeners: what each type needs") {
    struct Case {
        const char* name;
        const char* item;
        const char* complaint;
    };
    const Case cases[] = {
        {"datagram", "{type: unix_datagram, path: a.sock, mode: \"0660\", group: app}", ""},
        {"stream", "{type: unix_stream, path: /tmp/a.sock, lane: default}", ""},
        {"udp", "{type: udp, address: \"127.0.0.1:0\"}", ""},
        {"http on both", "{type: http, address: \"[::1]:1\"}, {type: http, path: h.sock}", ""},
        {"no type", "{path: a.sock}", "listeners[0].type: is missing"},
        {"unknown type", "{type: tcp}",
         "listeners[0].type: \"tcp\" is not known; allowed: unix_datagram, unix_stream, udp, http"},
        {"path missing", "{type: unix_stream}", "listeners[0]: unix_stream needs a path"},
        {"address too much", "{type: unix_stream, path: a, address: \"127.0.0.1:1\"}",
         "listeners[0]: unix_stream has a path, not an address"},
        {"address missing", "{type: udp}", "listeners[0]: udp needs an address"},
        {"path too much", "{type: udp, path: a, address: \"127.0.0.1:1\"}",
         "listeners[0]: udp has an address, not a path"},
        {"neither", "{type: http}", "listeners[0]: http needs either an address or a path"},
        {"both", "{type: http, path: a, address: \"127.0.0.1:1\"}",
         "listeners[0]: http needs either an address or a path"},
        {"mode of an address", "{type: udp, address: \"127.0.0.1:1\", mode: \"0600\"}",
         "listeners[0]: mode and group are for sockets with a path"},
        {"remote", "{type: udp, address: \"0.0.0.0:1\"}",
         "listeners[0]: 0.0.0.0 is not a loopback address; use 127.0.0.1 or [::1], or say "
         "allow_remote: true"},
        {"remote, asked for", "{type: udp, address: \"0.0.0.0:1\", allow_remote: true}", ""},
        {"remote http without a token", "{type: http, address: \"[::]:1\", allow_remote: true}",
         "listeners[0]: :: is not a loopback address; http needs a token_file there"},
        {"remote http", "{type: http, address: \"0.0.0.0:1\", allow_remote: true, token_file: /t}",
         ""},
        {"a path is not remote", "{type: http, path: a, allow_remote: true}",
         "listeners[0]: allow_remote is for an address"},
        {"yes", "{type: udp, address: \"127.0.0.1:1\", allow_remote: yes}",
         "listeners[0].allow_remote: \"yes\" is neither true nor false"},
        {"token of a stream", "{type: unix_stream, path: a, token_file: /t}",
         "listeners[0]: token_file is for type http"},
        {"token file without a directory", "{type: http, path: a, token_file: t}",
         "listeners[0].token_file: \"t\" is not an absolute path"},
        {"users", "{type: unix_stream, path: a, allow_uids: [0, 1000], allow_gids: [33]}", ""},
        {"users of an address", "{type: udp, address: \"127.0.0.1:1\", allow_uids: [0]}",
         "listeners[0]: allow_uids and allow_gids are for sockets with a path"},
        {"a user by name", "{type: http, path: a, allow_uids: [app]}",
         "listeners[0].allow_uids: \"app\" is not a whole number"},
        {"no list of users", "{type: http, path: a, allow_gids: 33}",
         "listeners[0].allow_gids: must be a list of 1 to 64 numbers, such as [1000]; leave it out "
         "to allow everybody"},
        {"rate", "{type: udp, address: \"127.0.0.1:1\", rate_limit: 1000000}", ""},
        {"rate beyond", "{type: udp, address: \"127.0.0.1:1\", rate_limit: 1000001}",
         "listeners[0].rate_limit: 1000001 is outside [0, 1000000]"},
        {"bad mode", "{type: unix_stream, path: a, mode: \"rw\"}",
         "listeners[0].mode: \"rw\" is not a mode; write it in octal, \"0660\""},
        {"other lane", "{type: unix_stream, path: a, lane: eu}",
         "listeners[0].lane: there is no lane \"eu\"; there are default"},
        {"no map", "udp",
         "listeners[0]: must be a map, such as {type: udp, address: \"127.0.0.1:8710\"}"},
        {"list as value", "{type: [udp]}", "listeners[0].type: needs one value"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto said = complaint(list(test.item));
        const auto space = said.find(' ');
        CHECK((said.empty() ? said : said.substr(space + 1)) == test.complaint);
    }
    CHECK(complaint("listeners: {}\n") == ":1:12: listeners: must be a list; [] for none");
}

TEST_CASE("config/listeners: two of them cannot have one place") {
    struct Case {
        const char* name;
        const char* text;
        const char* complaint;
    };
    const Case cases[] = {
        {"path", "listeners: [{type: unix_stream, path: a}, {type: http, path: /run/opsrelay/a}]\n",
         "listeners[1] (http): /run/opsrelay/a is already used by listeners[0] (unix_stream)"},
        {"another spelling of a path",
         "listeners: [{type: unix_stream, path: ./b/../a}, {type: http, path: a}]\n",
         "listeners[1] (http): /run/opsrelay/a is already used by listeners[0] (unix_stream)"},
        {"address",
         "listeners: [{type: udp, address: \"127.0.0.1:1\"}, {type: udp, address: "
         "\"127.0.0.1:1\"}]\n",
         "listeners[1] (udp): UDP 127.0.0.1:1 is already used by listeners[0] (udp)"},
        {"any free port twice",
         "listeners: [{type: udp, address: \"127.0.0.1:0\"}, {type: udp, address: "
         "\"127.0.0.1:0\"}]\n",
         ""},
        {"UDP and TCP share a port", "log: {level: info}\n", ""},
        {"admin address", "admin: {address: \"127.0.0.1:8710\"}\n",
         "admin.address: TCP 127.0.0.1:8710 is already used by listeners[3] (http)"},
        {"metrics address", "metrics: {address: \"127.0.0.1:8711\"}\n",
         "metrics.address: TCP 127.0.0.1:8711 is already used by admin.address"},
        {"another spelling of the admin socket", "admin: {socket: .//http.sock}\n",
         "admin.socket: /run/opsrelay/http.sock is already used by listeners[4] (http)"},
        {"admin socket", "admin: {socket: http.sock}\n",
         "admin.socket: /run/opsrelay/http.sock is already used by listeners[4] (http)"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(complaint(test.text) == test.complaint);
    }
}

TEST_CASE("config/listeners: allowed hosts are a list of names") {
    const auto hosts = [](const std::string& text) {
        const test::TempDir dir;
        auto sources = bare_sources();
        sources.file = write_file(dir, text);
        return load_config(sources).value().listen.http_allowed_hosts;
    };
    CHECK(hosts("").empty());
    CHECK(hosts("http: {allowed_hosts: [relay.internal, 10.0.0.7]}\n") ==
          std::vector<std::string>{"relay.internal", "10.0.0.7"});
    const auto said = [](const std::string& text) {
        const auto all = complaint("http: {allowed_hosts: " + text + "}\n");
        return all.substr(std::min(all.size(), all.find(' ') + 1));
    };
    CHECK(said("relay") == "http.allowed_hosts: must be a list; [] for none");
    CHECK(said("[[a]]") == "http.allowed_hosts: needs one value");
    for (const auto* const bad : {"\"\"", "\"relay:8710\"", "\"a b\"", "\"*\""}) {
        CAPTURE(bad);
        CHECK(said(fmt::format("[{}]", bad)).find("is no host name") != std::string::npos);
    }
    std::string many;
    for (std::size_t i = 0; i <= kAllowedHostsMax; ++i) many += fmt::format("h{}, ", i);
    CHECK(said("[" + many + "]") == "http.allowed_hosts: 65 is outside [0, 64]");
}

TEST_CASE("config/listeners: a socket path must fit into sun_path") {
    const std::string run_dir = "/" + std::string(89, 'r');  // + "/telemetry.sock": 105
    const auto fits = complaint(fmt::format("run_dir: {}\nlisteners: []\n", run_dir));
    CHECK(fits.empty());
    const auto said = complaint(fmt::format("run_dir: {}\n", run_dir));
    CHECK(said.starts_with("listeners[1] (unix_stream): /rrr"));
    CHECK(said.find("has 112 bytes, a socket path may have 107; choose a shorter run_dir") !=
          std::string::npos);
    std::string many;
    for (std::size_t i = 0; i <= kListenersMax; ++i) {
        many += fmt::format("  - {{type: unix_stream, path: s{}}}\n", i);
    }
    CHECK(complaint("listeners:\n" + many).find("65 is outside [0, 64]") != std::string::npos);
}

TEST_CASE("config/listeners: port flags change, add and remove") {
    auto listeners = default_listeners();
    REQUIRE(set_port(listeners, ListenerKind::http, "--http-port", "9").has_value());
    CHECK(listeners[3].port == 9);
    REQUIRE(set_port(listeners, ListenerKind::http, "--http-port", "off").has_value());
    CHECK(listeners.size() == 4);  // http.sock stays
    REQUIRE(set_port(listeners, ListenerKind::http, "--http-port", "0").has_value());
    CHECK(listeners.back().address == "127.0.0.1");
    CHECK(listeners.back().port == 0);
    listeners.push_back(listeners.back());
    CHECK_FALSE(set_port(listeners, ListenerKind::http, "--http-port", "1").has_value());
    const auto bad = set_port(listeners, ListenerKind::udp, "--udp-port", "x");
    REQUIRE_FALSE(bad.has_value());
    CHECK(bad.error().context == "--udp-port: \"x\" is not a whole number; or write off");
}
