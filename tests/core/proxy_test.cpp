#include "core/proxy.h"

#include <doctest/doctest.h>

#include <string>

using namespace opsrelay;

TEST_CASE("core/proxy: a URL is taken apart, and a refusal never repeats it") {
    struct Case {
        const char* name;
        std::string text;
        const char* shown;  // "": refused
        const char* user;
        const char* password;
        const char* complaint;
    };
    const Case cases[] = {
        {"host and port", "http://proxy.corp:3128", "http://proxy.corp:3128", "", "", ""},
        {"no scheme", "proxy.corp:3128", "http://proxy.corp:3128", "", "", ""},
        {"no port", "http://PROXY", "http://proxy:80", "", "", ""},
        {"a slash behind", "http://proxy:1/", "http://proxy:1", "", "", ""},
        {"credentials", "http://me:pass@proxy:1", "http://***@proxy:1", "me", "pass", ""},
        {"only a user", "http://me@proxy:1", "http://***@proxy:1", "me", "", ""},
        {"escapes", "http://m%40e:p%3Aa%2Fs%25s@proxy:1", "http://***@proxy:1", "m@e", "p:a/s%s",
         ""},
        {"an @ in the password", "http://me:p@ss@proxy:1", "http://***@proxy:1", "me", "p@ss", ""},
        {"IPv4", "http://127.0.0.1:1", "http://127.0.0.1:1", "", "", ""},
        {"IPv6", "http://[::1]:1", "http://[::1]:1", "", "", ""},
        {"masked, as it is printed", "http://***@proxy:1", "http://***@proxy:1", "***", "", ""},
        {"empty", "", "", "", "", "no valid host"},
        {"TLS to the proxy", "https://me:hidden@proxy:1", "", "", "", "not reached by http://"},
        {"SOCKS", "socks5://me:hidden@proxy:1", "", "", "", "not reached by http://"},
        {"a path", "http://me:hidden@proxy:1/x", "", "", "", "has a path"},
        {"port 0", "http://me:hidden@proxy:0", "", "", "", "no valid host and port"},
        {"port too large", "http://me:hidden@proxy:65536", "", "", "", "no valid host and port"},
        {"no host", "http://me:hidden@:1", "", "", "", "no valid host and port"},
        {"bare IPv6", "http://me:hidden@::1", "", "", "", "no valid host and port"},
        {"a name in brackets", "http://me:hidden@[proxy]:1", "", "", "", "no valid host"},
        {"a space", "http://me:hidden @proxy:1", "", "", "", "spaces"},
        {"a newline escaped", "http://me:hidden%0a@proxy:1", "", "", "", "cannot be sent"},
        {"half an escape", "http://me:hidden%4@proxy:1", "", "", "", "cannot be sent"},
        {"not an escape", "http://me:hidden%zz@proxy:1", "", "", "", "cannot be sent"},
        {"no user", "http://:hidden@proxy:1", "", "", "", "cannot be sent"},
        {"a colon in the user", "http://m%3Ae:hidden@proxy:1", "", "", "", "cannot be sent"},
        {"too long", "http://me:hidden@" + std::string(2048, 'p'), "", "", "", "more than 2048"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        const auto proxy = parse_proxy(test.text);
        REQUIRE(proxy.has_value() == (*test.shown != '\0'));
        if (proxy) {
            CHECK(show_proxy(*proxy) == test.shown);
            CHECK(proxy->user.view() == test.user);
            CHECK(proxy->password.view() == test.password);
        } else {
            CHECK(proxy.error().code == Errc::config_invalid);
            CHECK(proxy.error().context.find(test.complaint) != std::string::npos);
            CHECK(proxy.error().context.find("hidden") == std::string::npos);
        }
    }
}

TEST_CASE("core/proxy: what NO_PROXY names is reached directly") {
    struct Case {
        const char* list;
        const char* host;
        std::uint16_t port;
        bool direct;
    };
    const Case cases[] = {
        {"", "api.opsmeter.io", 443, false},
        {" , ,", "api.opsmeter.io", 443, false},
        {"*", "api.opsmeter.io", 443, true},
        {"opsmeter.io", "opsmeter.io", 443, true},
        {"opsmeter.io", "api.opsmeter.io", 443, true},
        {".opsmeter.io", "API.opsmeter.io", 443, true},
        {"*.OPSMETER.io", "api.opsmeter.io", 443, true},
        {"opsmeter.io", "notopsmeter.io", 443, false},
        {"api.opsmeter.io", "opsmeter.io", 443, false},
        {"a.test, b.test", "b.test", 443, true},
        {"a.test b.test", "b.test", 443, true},
        {"b.test:443", "b.test", 443, true},
        {"b.test:443", "b.test", 8443, false},
        {"b.test:x", "b.test", 443, false},
        {"10.1.2.3", "10.1.2.3", 443, true},
        {"10.1.2.3", "10.1.2.30", 443, false},
        {"2.3", "10.1.2.3", 443, false},
        {"10.1.2.3:443", "10.1.2.3", 443, true},
        {"10.0.0.0/8", "10.200.0.1", 443, true},
        {"10.0.0.0/8", "11.0.0.1", 443, false},
        {"10.0.0.0/9", "10.127.0.1", 443, true},
        {"10.0.0.0/9", "10.128.0.1", 443, false},
        {"0.0.0.0/0", "192.0.2.1", 443, true},
        {"10.0.0.0/33", "10.0.0.1", 443, false},
        {"10.0.0.0/", "10.0.0.1", 443, false},
        {"10.0.0.0/8", "name.test", 443, false},
        {"fd00::/8", "fd12::1", 443, true},
        {"fd00::/8", "fe80::1", 443, false},
        {"::1", "::1", 443, true},
        {"[::1]:443", "::1", 443, true},
    };
    for (const auto& test : cases) {
        CAPTURE(test.list);
        CAPTURE(test.host);
        CHECK(bypasses_proxy(test.list, test.host, test.port) == test.direct);
    }
}
