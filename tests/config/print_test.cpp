#include <doctest/doctest.h>

#include "config/config.h"
#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;

TEST_CASE("config/print: the printed YAML is read again and gives the same") {
    const char* const texts[] = {
        "",
        "listeners: []\nadmin: {address: off}\n",
        "listeners:\n  - {type: unix_stream, path: \"/tmp/a \\\"b\\\" c.sock\", mode: \"0600\", "
        "group: app}\n  - {type: udp, address: \"[::1]:5\"}\n"
        "  - {type: http, address: \"0.0.0.0:6\", allow_remote: true, token_file: \"/run/t\", "
        "rate_limit: 7}\n  - {type: http, path: h, allow_uids: [0, 5], allow_gids: [6]}\n"
        "spool: {max_bytes: 100MiB, commit_gap: 0ms}\nshutdown: {deadline: 90s}\n"
        "upstream: {url: \"http://127.0.0.1:5\", api_key_file: /run/key}\n",
    };
    for (const auto* text : texts) {
        CAPTURE(text);
        const test::TempDir dir;
        auto sources = bare_sources();
        sources.file = write_file(dir, text);
        const auto first = load_config(sources).value();
        sources.file = write_file(dir, to_yaml(first));
        const auto second = load_config(sources);
        REQUIRE(second.has_value());
        CHECK(to_yaml(*second) == to_yaml(first));
        CHECK(to_json(*second) == to_json(first));
    }
}

TEST_CASE("config/print: both forms show every section") {
    const auto config = load_config(bare_sources()).value();
    const auto yaml = to_yaml(config);
    CHECK(yaml.find("spool:\n  dir: \"/var/lib/opsrelay\"\n  max_bytes: 512MiB\n") !=
          std::string::npos);
    CHECK(yaml.find("  api_key_file: null\n") != std::string::npos);
    CHECK(yaml.find("  - {type: \"udp\", address: \"127.0.0.1:8710\", lane: \"default\"}\n") !=
          std::string::npos);
    const auto json = to_json(config);
    CHECK(json.starts_with("{\"config\":{\"upstream\":{\"kind\":\"opsmeter\","));
    CHECK(
        json.find(
            "\"connections\":8,\"pipeline\":1,\"concurrency\":\"adaptive\",\"timeout\":\"10s\",") !=
        std::string::npos);
    CHECK(json.find("\"batch_compression\":\"gzip\"},\"run_dir\":\"/run/opsrelay\",") !=
          std::string::npos);
    CHECK(json.find("\"warnings\":[\"no API key") != std::string::npos);
}
