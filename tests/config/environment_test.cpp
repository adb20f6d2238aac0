#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "config/config.h"

using namespace opsrelay::config;

TEST_CASE("config/environment: secrets leave the environment, and nothing of them stays") {
    for (const auto* name : {"OPSRELAY_API_KEY", "OPSRELAY_UPSTREAM__PROXY"}) {
        CAPTURE(name);
        REQUIRE(::setenv(name, "sk-secret", 1) == 0);
        char* const bytes = ::getenv(name);
        CHECK(take_environment().variables.at(name) == "sk-secret");
        CHECK(::getenv(name) == nullptr);
        CHECK(std::string_view(bytes, 9) == std::string_view("\0\0\0\0\0\0\0\0\0", 9));
    }
}

TEST_CASE("config/environment: proxies and systemd's credentials are looked at") {
    for (const auto* name : {"HTTPS_PROXY", "http_proxy", "NO_PROXY", "CREDENTIALS_DIRECTORY"}) {
        CAPTURE(name);
        REQUIRE(::setenv(name, "value", 1) == 0);
        CHECK(take_environment().variables.at(name) == "value");
        REQUIRE(::unsetenv(name) == 0);
    }
}

TEST_CASE("config/environment: the API key leaves the environment") {
    REQUIRE(::setenv("OPSRELAY_API_KEY", "sk-secret", 1) == 0);
    REQUIRE(::setenv("OPSRELAY_LOG__LEVEL", "debug", 1) == 0);
    REQUIRE(::setenv("OTHER_THING", "x", 1) == 0);
    const auto taken = take_environment();
    CHECK(taken.variables.at("OPSRELAY_API_KEY") == "sk-secret");
    CHECK(taken.variables.at("OPSRELAY_LOG__LEVEL") == "debug");
    CHECK_FALSE(taken.variables.contains("OTHER_THING"));
    CHECK(taken.root == (::geteuid() == 0));
    CHECK_FALSE(take_environment().variables.contains("OPSRELAY_API_KEY"));
    REQUIRE(::unsetenv("OPSRELAY_LOG__LEVEL") == 0);
    REQUIRE(::unsetenv("OTHER_THING") == 0);
}
