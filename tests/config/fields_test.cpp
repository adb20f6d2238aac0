#include "config/fields.h"

#include <doctest/doctest.h>

#include <vector>

using namespace opsrelay;
using namespace opsrelay::config;
using namespace std::chrono_literals;

namespace {

template <typename T>
std::string context(const Result<T>& result) {
    return result ? std::string{} : result.error().context;
}

}  // namespace

TEST_CASE("config/fields: a duration needs a unit and must be in range") {
    struct Case {
        const char* name;
        const char* text;
        const char* complaint;
    };
    const Case cases[] = {
        {"milliseconds", "500ms", ""},
        {"seconds", "60s", ""},
        {"minutes", "1m", ""},
        {"minutes, spelled as in the README", "1min", ""},
        {"no unit", "30",
         "forward.timeout: \"30\" is not a duration; write a number and ms, s, m or h, such as "
         "30s"},
        {"zero without a unit", "0", "forward.timeout: 0ms is outside [1ms, 60000ms]"},
        {"fraction", "1.5s",
         "forward.timeout: \"1.5s\" is not a duration; write a number and ms, s, m or h, such as "
         "30s"},
        {"negative", "-1s",
         "forward.timeout: \"-1s\" is not a duration; write a number and ms, s, m or h, such as "
         "30s"},
        {"space", "1 s",
         "forward.timeout: \"1 s\" is not a duration; write a number and ms, s, m or h, such as "
         "30s"},
        {"unit only", "s",
         "forward.timeout: \"s\" is not a duration; write a number and ms, s, m or h, such as 30s"},
        {"unknown unit", "1w",
         "forward.timeout: \"1w\" is not a duration; write a number and ms, s, m or h, such as "
         "30s"},
        {"empty", "",
         "forward.timeout: \"\" is not a duration; write a number and ms, s, m or h, such as 30s"},
        {"overflow", "9999999999999999h",
         "forward.timeout: \"9999999999999999h\" is not a duration; write a number and ms, s, m or "
         "h, such as 30s"},
        {"above range", "61s", "forward.timeout: 61000ms is outside [1ms, 60000ms]"},
        {"below range", "0ms", "forward.timeout: 0ms is outside [1ms, 60000ms]"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(context(duration_field("forward.timeout", test.text, {1ms, 60s})) == test.complaint);
    }
}

TEST_CASE("config/fields: every unit of a duration, and none for zero") {
    CHECK(parse_duration("7ms").value() == 7ms);
    CHECK(parse_duration("7s").value() == 7s);
    CHECK(parse_duration("7m").value() == 7min);
    CHECK(parse_duration("7min").value() == 7min);
    CHECK(parse_duration("7h").value() == 7h);
    CHECK(parse_duration("0").value() == 0ms);
}

TEST_CASE("config/fields: a size needs a unit and must be in range") {
    struct Case {
        const char* name;
        const char* text;
        const char* complaint;
    };
    const Case cases[] = {
        {"mebibytes", "64MiB", ""},
        {"bytes", "1048576B", ""},
        {"gibibytes", "1GiB", ""},
        {"no unit", "64", "spool.x: \"64\" is not a size; write 512KiB or 64MiB"},
        {"decimal unit", "64MB", "spool.x: \"64MB\" is not a size; write 512KiB or 64MiB"},
        {"overflow", "9223372036854775807KiB",
         "spool.x: \"9223372036854775807KiB\" is not a size; write 512KiB or 64MiB"},
        {"below range", "1023KiB", "spool.x: 1023KiB is outside [1MiB, 1GiB]"},
        {"above range", "2TiB", "spool.x: 2TiB is outside [1MiB, 1GiB]"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(context(bytes_field("spool.x", test.text, {1_MiB, 1_GiB})) == test.complaint);
    }
}

TEST_CASE("config/fields: what is formatted is read back the same") {
    for (const std::int64_t ms : {0, 1, 999, 1000, 1500, 60'000, 90'000, 3'600'000, 86'400'000}) {
        CAPTURE(ms);
        CHECK(parse_duration(format_duration(milliseconds(ms))).value() == milliseconds(ms));
    }
    for (const std::uint64_t n :
         {0ULL, 1ULL, 1023ULL, 1024ULL, 1536ULL, 1ULL << 29U, 1ULL << 42U}) {
        CAPTURE(n);
        CHECK(parse_bytes(format_bytes({n})).value() == Bytes{n});
    }
    CHECK(format_duration(90s) == "90s");
    CHECK(format_bytes(512_MiB) == "512MiB");
    CHECK(format_endpoint("::1", 1) == "[::1]:1");
}

TEST_CASE("config/fields: numbers, words and modes") {
    CHECK(count_field("n", "8", {1, 64}).value() == 8);
    CHECK(context(count_field("n", "65", {1, 64})) == "n: 65 is outside [1, 64]");
    CHECK(context(count_field("n", "99999999999999999999", {1, 64})) ==
          "n: 99999999999999999999 is outside [1, 64]");
    CHECK(context(count_field("n", "8x", {1, 64})) == "n: \"8x\" is not a whole number");
    CHECK(context(count_field("n", "", {1, 64})) == "n: \"\" is not a whole number");
    CHECK(bool_field("b", "true").value());
    CHECK_FALSE(bool_field("b", "false").value());
    CHECK(context(bool_field("b", "yes")) == "b: \"yes\" is neither true nor false");
    CHECK(mode_field("m", "0660").value() == 0660);
    CHECK(mode_field("m", "777").value() == 0777);
    CHECK(context(mode_field("m", "0888")) ==
          "m: \"0888\" is not a mode; write it in octal, \"0660\"");
    CHECK(context(mode_field("m", "1777")) == "m: 01777 is outside [0, 0777]");
}

TEST_CASE("config/fields: an endpoint is a loopback address with a port") {
    struct Case {
        const char* text;
        bool good;
    };
    const Case cases[] = {
        {"127.0.0.1:8710", true},
        {"127.9.9.9:0", true},
        {"[::1]:65535", true},
        {"0.0.0.0:1", false},
        {"192.168.0.1:8710", false},
        {"[::]:1", false},
        {"::1:8710", false},
        {"localhost:8710", false},
        {"127.0.0.1", false},
        {"127.0.0.1:", false},
        {"127.0.0.1:65536", false},
        {":8710", false},
        {"[127.0.0.1]:1", false},
        {"[::1]", false},
        {"", false},
    };
    for (const auto& test : cases) {
        CAPTURE(test.text);
        CHECK(endpoint_field("a", test.text).has_value() == test.good);
    }
    CHECK(context(endpoint_field("a", "10.0.0.1:1")) ==
          "a: 10.0.0.1 is not a loopback address; use 127.0.0.1 or [::1]");
    CHECK(endpoint_field("a", "[::1]:7").value().address == "::1");
}

TEST_CASE("config/fields: a URL has scheme, host and port, nothing else") {
    struct Case {
        const char* text;
        const char* result;  // empty: refused
    };
    const Case cases[] = {
        {"https://api.opsmeter.io", "https://api.opsmeter.io"},
        {"https://api.opsmeter.io/", "https://api.opsmeter.io"},
        {"http://127.0.0.1:9", "http://127.0.0.1:9"},
        {"https://[::1]:443", "https://[::1]:443"},
        {"api.opsmeter.io", ""},
        {"ftp://x", ""},
        {"https://", ""},
        {"https://:443", ""},
        {"https://x:0", ""},
        {"https://x:99999", ""},
        {"https://x/path", ""},
        {"unix:/run/api.sock", "unix:/run/api.sock"},
        {"unix:/run/a b.sock", "unix:/run/a b.sock"},
        {"unix:api.sock", ""},
        {"unix:", ""},
        {"unix:/a\nb", ""},
        {"https://x?q", ""},
        {"https://x y", ""},
        {"https://x\r\nHost: y", ""},
        {"https://[nonsense]", ""},
        {"https://a,b", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.text);
        const auto url = url_field("u", test.text);
        CHECK((url ? *url : std::string{}) == test.result);
    }
    // A password in the URL is refused without being repeated.
    const auto refused = context(url_field("u", "https://user:secret@x"));
    CHECK(refused == "u: \"***\" contains a user name; write https://host or https://host:port");
    CHECK(url_host("https://[::1]:443") == "::1");
    CHECK(url_host("https://x:1") == "x");
    CHECK_FALSE(is_loopback("api.opsmeter.io"));
    CHECK(url_field("u", "unix:/" + std::string(106, 's')).has_value());
    CHECK(context(url_field("u", "unix:/" + std::string(107, 's'))).find("107 bytes") !=
          std::string::npos);
}

TEST_CASE("config/fields: paths") {
    CHECK(path_field("p", "/a/b/", true).value() == "/a/b");
    CHECK(path_field("p", "/", true).value() == "/");
    CHECK(path_field("p", "a", false).value() == "a");
    CHECK(context(path_field("p", "a", true)) == "p: \"a\" is not an absolute path");
    CHECK(context(path_field("p", "", false)) == "p: the path is empty");
    CHECK(context(path_field("p", "/a\nb", true)) == "p: the path contains a control character");
    CHECK_FALSE(path_field("p", std::string(5000, 'a'), false).has_value());
    CHECK(url_path_field("p", "/v1/x").value() == "/v1/x");
    CHECK_FALSE(url_path_field("p", "v1").has_value());
    CHECK_FALSE(url_path_field("p", "/v1 x").has_value());
    CHECK_FALSE(url_path_field("p", "/v1?x").has_value());
}

TEST_CASE("config/fields: the nearest name is found, a strange one is not") {
    const std::vector<std::string_view> names{"spool.dir", "spool.max_bytes", "http.max_body"};
    CHECK(nearest("spool.max_byte", names) == "spool.max_bytes");
    CHECK(nearest("SPOOL.DIR", names) == "spool.dir");
    CHECK(nearest("memory.max_bytes", names) == "spool.max_bytes");
    CHECK_FALSE(nearest("zzz", names));
    CHECK_FALSE(nearest(std::string(100'000, 'x'), names));
}
