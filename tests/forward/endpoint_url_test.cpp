#include "forward/endpoint_url.h"

#include <doctest/doctest.h>

#include <string>

namespace opsrelay::forward {

namespace {

const std::string kLongSocket = "unix:/" + std::string(107, 's');

}  // namespace

TEST_CASE("forward/endpoint_url: what is accepted, and as what") {
    struct Case {
        const char* url;
        const char* host;
        std::uint16_t port;
        bool tls;
        const char* header;
        const char* target;
    };
    const Case cases[] = {
        {"https://api.opsmeter.io", "api.opsmeter.io", 443, true, "api.opsmeter.io", "/p"},
        {"HTTPS://API.Opsmeter.IO/", "api.opsmeter.io", 443, true, "api.opsmeter.io", "/p"},
        {"https://h:8443/pre/fix/", "h", 8443, true, "h:8443", "/pre/fix/p"},
        {"http://127.0.0.1:80", "127.0.0.1", 80, false, "127.0.0.1", "/p"},
        {"http://localhost:9", "localhost", 9, false, "localhost:9", "/p"},
        {"http://[::1]:8080", "::1", 8080, false, "[::1]:8080", "/p"},
        {"https://[2001:db8::1]", "2001:db8::1", 443, true, "[2001:db8::1]", "/p"},
        {"unix:/run/api.sock", "localhost", 80, false, "localhost", "/p"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.url);
        Options options;
        options.url = test.url;
        const auto endpoint = parse_endpoint(options);
        REQUIRE(endpoint.has_value());
        CHECK(endpoint->host == test.host);
        CHECK(endpoint->port == test.port);
        CHECK(endpoint->tls == test.tls);
        CHECK(endpoint->host_header == test.header);
        CHECK(endpoint->target("/p") == test.target);
    }
}

TEST_CASE("forward/endpoint_url: what is refused names key, value and a way out") {
    struct Case {
        const char* name;
        const char* url;
        const char* complaint;
    };
    const Case cases[] = {
        {"no scheme", "api.opsmeter.io",
         "upstream.url: \"api.opsmeter.io\": begin it with https://"},
        {"other scheme", "ftp://h", "begin it with https://"},
        {"no host", "https://", "not a name"},
        {"port 0", "https://h:0", "1 to 65535"},
        {"port too large", "https://h:65536", "1 to 65535"},
        {"port empty", "https://h:", "host:443"},
        {"port is text", "https://h:x", "1 to 65535"},
        {"user", "https://u:p@h", "user information"},
        {"query", "https://h?x=1", "query"},
        {"space", "https://h /", "spaces"},
        {"newline", "https://h\r\nX: y", "spaces"},
        {"brackets around a name", "https://[h]", "IPv6"},
        {"IPv6 without brackets", "https://::1", "not a name"},
        {"bracket left open", "https://[::1", "host:443"},
        {"bad name", "https://h!", "not a name"},
        {"a relative socket", "unix:api.sock", "absolute path"},
        {"a socket's path too long", kLongSocket.c_str(), "at most 107 bytes"},
        {"plain http elsewhere", "http://api.opsmeter.io", "allow_plaintext"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        Options options;
        options.url = test.url;
        const auto endpoint = parse_endpoint(options);
        REQUIRE_FALSE(endpoint.has_value());
        CAPTURE(endpoint.error().context);
        CHECK(endpoint.error().code == Errc::config_invalid);
        CHECK(endpoint.error().context.find(test.complaint) != std::string::npos);
        CHECK(endpoint.error().context.find("u:p") == std::string::npos);
    }
    Options plain;
    plain.url = "http://api.opsmeter.io";
    plain.allow_plaintext = true;
    CHECK(parse_endpoint(plain).has_value());
    plain.path = "v1/ingest";
    CHECK_FALSE(parse_endpoint(plain).has_value());
}

}  // namespace opsrelay::forward
