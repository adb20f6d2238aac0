#include "config/upstream_proxy.h"

#include <doctest/doctest.h>

#include <string>

#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;

namespace {

std::string shown(const Sources& sources) {
    const auto config = load_config(sources);
    REQUIRE(config.has_value());
    return show_upstream_proxy(config->lanes.at("default"));
}

}  // namespace

TEST_CASE("config/upstream_proxy: which proxy the environment means") {
    using Variables = std::map<std::string, std::string>;
    struct Case {
        const char* name;
        const char* url;
        Variables variables;
        const char* shown;
    };
    const Case cases[] = {
        {"none", "https://api.test", {}, ""},
        {"https", "https://api.test", {{"HTTPS_PROXY", "http://p:1"}}, "http://p:1"},
        {"small letters come first",
         "https://api.test",
         {{"HTTPS_PROXY", "http://p:1"}, {"https_proxy", "http://q:2"}},
         "http://q:2"},
        {"empty is none",
         "https://api.test",
         {{"HTTPS_PROXY", "http://p:1"}, {"https_proxy", ""}},
         "http://p:1"},
        {"https is not http", "https://api.test", {{"HTTP_PROXY", "http://p:1"}}, ""},
        {"http", "http://api.test", {{"HTTP_PROXY", "p:1"}}, "http://p:1"},
        {"http is not https", "http://api.test", {{"HTTPS_PROXY", "http://p:1"}}, ""},
        {"this machine", "https://localhost:1", {{"HTTPS_PROXY", "http://p:1"}}, ""},
        {"this machine by number", "http://127.0.0.1:1", {{"HTTP_PROXY", "http://p:1"}}, ""},
        {"a socket", "unix:/run/x", {{"HTTP_PROXY", "p:1"}, {"HTTPS_PROXY", "p:1"}}, ""},
        {"excepted",
         "https://api.test",
         {{"HTTPS_PROXY", "http://p:1"}, {"NO_PROXY", "other,.test"}},
         ""},
        {"excepted with its port",
         "https://api.test:8443",
         {{"HTTPS_PROXY", "http://p:1"}, {"no_proxy", "api.test:8443"}},
         ""},
        {"another port excepted",
         "https://api.test",
         {{"HTTPS_PROXY", "http://p:1"}, {"no_proxy", "api.test:8443"}},
         "http://p:1"},
        {"an IPv6 host without a port",
         "https://[2001:db8::1]",
         {{"HTTPS_PROXY", "http://p:1"}, {"no_proxy", "[2001:db8::1]:443"}},
         ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        auto sources = bare_sources();
        sources.environment.variables = test.variables;
        sources.environment.variables["OPSRELAY_UPSTREAM__URL"] = test.url;
        sources.environment.variables["OPSRELAY_UPSTREAM__ALLOW_PLAINTEXT"] = "true";
        CHECK(shown(sources) == test.shown);
    }
}

TEST_CASE("config/upstream_proxy: the key counts more than the environment") {
    auto sources = bare_sources();
    sources.environment.variables["HTTPS_PROXY"] = "http://p:1";
    sources.environment.variables["NO_PROXY"] = "*";
    sources.environment.variables["OPSRELAY_UPSTREAM__PROXY"] = "http://q:2";
    CHECK(shown(sources) == "http://q:2");
    sources.environment.variables["NO_PROXY"] = "";
    sources.environment.variables["OPSRELAY_UPSTREAM__PROXY"] = "off";
    CHECK(shown(sources) == "off");
    sources.environment.variables["OPSRELAY_UPSTREAM__PROXY"] = "";
    CHECK(shown(sources) == "http://p:1");
}

TEST_CASE("config/upstream_proxy: credentials are used and never shown") {
    auto sources = bare_sources();
    sources.environment.variables["HTTPS_PROXY"] = "http://me:hidden@p:1";
    auto config = load_config(sources).value();
    const auto& proxy = config.lanes.at("default").proxy;
    REQUIRE(proxy);
    CHECK(proxy->password.view() == "hidden");
    CHECK(to_yaml(config).find("  proxy: \"http://***@p:1\"\n") != std::string::npos);
    CHECK(to_json(config).find("\"proxy\":\"http://***@p:1\"") != std::string::npos);

    sources.environment.variables["HTTPS_PROXY"] = "https://me:hidden@p:1";
    const auto refused = load_config(sources);
    REQUIRE(refused.has_error());
    CHECK(refused.error().context ==
          "environment variable HTTPS_PROXY: *** names a proxy that is not reached by http://; "
          "write http://host:port or http://user:password@host:port, or set upstream.proxy: off");
    CHECK(complaint("upstream: {proxy: \"http://me:hidden@p:x\"}\n") ==
          ":1:19: upstream.proxy: *** has no valid host and port; write http://host:port or "
          "http://user:password@host:port");
}

TEST_CASE("config/upstream_proxy: a certificate without its key is refused") {
    for (const auto* one : {"client_cert_file", "client_key_file"}) {
        CAPTURE(one);
        CHECK(complaint(std::string("upstream: {") + one + ": /x}\n")
                  .find("belong together; set both or none") != std::string::npos);
    }
}
