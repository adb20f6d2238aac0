#include "core/browser_rules.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace opsrelay {

TEST_CASE("core/browser_rules: only names of this machine pass as Host") {
    struct Case {
        const char* name;
        const char* host;
        bool local;
    };
    const Case cases[] = {
        {"name", "localhost", true},
        {"name in capitals with a port", "LocalHost:8710", true},
        {"IPv4", "127.0.0.1", true},
        {"IPv4 with a port", "127.0.0.1:8710", true},
        {"IPv6 with a port", "[::1]:8710", true},
        {"absent", "", false},
        {"rebound name", "attacker.example:8710", false},
        {"prefix of a longer name", "localhost.attacker.example", false},
        {"port is not a number", "localhost:80x", false},
        {"empty port", "localhost:", false},
        {"other loopback address", "127.0.0.2", false},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(is_local_host(test.host) == test.local);
    }
}

TEST_CASE("core/browser_rules: names that were allowed pass with any port") {
    const std::vector<std::string> names{"relay.internal", "10.0.0.7"};
    CHECK(is_named_host("relay.internal", names));
    CHECK(is_named_host("Relay.Internal:8710", names));
    CHECK(is_named_host("10.0.0.7:1", names));
    CHECK_FALSE(is_named_host("relay.internal.evil.example", names));
    CHECK_FALSE(is_named_host("", names));
    CHECK_FALSE(is_named_host("localhost", names));
}

TEST_CASE("core/browser_rules: a foreign Origin is recognised") {
    CHECK(is_local_origin(""));
    CHECK(is_local_origin("http://localhost:3000"));
    CHECK(is_local_origin("https://127.0.0.1"));
    CHECK_FALSE(is_local_origin("https://attacker.example"));
    CHECK_FALSE(is_local_origin("null"));
    CHECK_FALSE(is_local_origin("http://localhost.attacker.example"));
}

}  // namespace opsrelay
