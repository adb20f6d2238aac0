#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>

#include "config/config.h"

using namespace opsrelay::config;

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
