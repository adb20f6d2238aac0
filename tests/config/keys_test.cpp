#include "config/keys.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <set>

#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;

namespace {

struct Case {
    const char* key;
    const char* good;
    const char* bad;
    const char* complaint;
    const char* beside = "";  // a key that must be set too, to a path
};

// One row per key with one value: a value that differs from the default, one that is refused, and
// why.
const Case kCases[] = {
    {"upstream.kind", "batch", "kafka", "\"kafka\" is not known; allowed: opsmeter, batch"},
    {"upstream.url", "https://example.test:8443", "example.test",
     "\"example.test\" is not an http or https URL"},
    {"upstream.path", "/v2/ingest", "v2", "\"v2\" is not a path"},
    {"upstream.api_key_file", "/run/key", "key", "\"key\" is not an absolute path"},
    {"upstream.ca_file", "/run/ca.pem", "ca.pem", "\"ca.pem\" is not an absolute path"},
    {"upstream.client_cert_file", "/run/c.pem", "c.pem", "\"c.pem\" is not an absolute path",
     "upstream.client_key_file"},
    {"upstream.client_key_file", "/run/k.pem", "k.pem", "\"k.pem\" is not an absolute path",
     "upstream.client_cert_file"},
    {"upstream.proxy", "http://proxy:3128", "socks5://proxy",
     "*** names a proxy that is not reached by http://; write http://host:port"},
    {"upstream.allow_plaintext", "true", "1", "\"1\" is neither true nor false"},
    {"upstream.connections", "64", "65", "65 is outside [1, 64]"},
    {"upstream.pipeline", "16", "17", "17 is outside [1, 16]"},
    {"upstream.concurrency", "fixed", "auto", "\"auto\" is not known; allowed: adaptive, fixed"},
    {"upstream.timeout", "3s", "99ms", "99ms is outside [100ms, 300000ms]"},
    {"upstream.batch_max_events", "100", "1001", "1001 is outside [1, 1000]"},
    {"upstream.batch_max_bytes", "2MiB", "63KiB", "63KiB is outside [64KiB, 8MiB]"},
    {"upstream.batch_linger", "5s", "2m", "120000ms is outside [0ms, 60000ms]"},
    {"upstream.batch_format", "array", "csv", "\"csv\" is not known; allowed: ndjson, array"},
    {"upstream.batch_compression", "zstd", "br", "\"br\" is not known; allowed: gzip, zstd, none"},
    {"run_dir", "/tmp/run", "run", "\"run\" is not an absolute path"},
    {"spool.dir", "/tmp/spool", "spool", "\"spool\" is not an absolute path"},
    {"spool.max_bytes", "1GiB", "63MiB", "63MiB is outside [64MiB, 16TiB]"},
    {"spool.dead_max_bytes", "1MiB", "63KiB", "63KiB is outside [64KiB, 16TiB]"},
    {"spool.volume_bytes", "1GiB", "15MiB", "15MiB is outside [16MiB, 16TiB]"},
    {"spool.on_full", "drop_oldest", "drop", "\"drop\" is not known; allowed: refuse, drop_oldest"},
    {"spool.max_age", "72h", "8761h", "31539600000ms is outside [0ms, 31536000000ms]"},
    {"spool.ephemeral", "true", "yes", "\"yes\" is neither true nor false"},
    {"spool.commit_gap", "5ms", "2s", "2000ms is outside [0ms, 1000ms]"},
    {"dedupe.window", "1h", "0s", "0ms is outside [60000ms, 2592000000ms]"},
    {"dedupe.max_ids", "20000", "9999", "9999 is outside [10000, 100000000]"},
    {"events.missing_id", "reject", "drop", "\"drop\" is not known; allowed: mint, reject"},
    {"events.stamp_created_at", "false", "no", "\"no\" is neither true nor false"},
    {"events.lift_tenant", "false", "1", "\"1\" is neither true nor false"},
    {"privacy.user_id", "drop", "mask", "\"mask\" is not known; allowed: pass, hash, drop"},
    {"privacy.tenant_id", "drop", "", "\"\" is not known; allowed: pass, hash, drop"},
    {"privacy.hash_key_file", "/run/hash.key", "key", "\"key\" is not an absolute path"},
    {"memory.max_bytes", "128MiB", "31MiB", "31MiB is outside [32MiB, 64GiB]"},
    {"memory.stall_buffer", "4MiB", "512KiB", "512KiB is outside [1MiB, 1GiB]"},
    {"http.ack_timeout", "250ms", "9ms", "9ms is outside [10ms, 60000ms]"},
    {"http.mirror_upstream", "true", "1", "\"1\" is neither true nor false"},
    {"http.max_body", "2MiB", "63KiB", "63KiB is outside [64KiB, 64MiB]"},
    {"stream.ack_timeout", "5s", "5",
     "\"5\" is not a duration; write a number and ms, s, m or h, such as 30s"},
    {"shutdown.deadline", "5s", "2h", "7200000ms is outside [0ms, 3600000ms]"},
    {"admin.address", "127.0.0.1:9", "0.0.0.0:9", "0.0.0.0 is not a loopback address"},
    {"admin.socket", "/tmp/a.sock", "off",
     "it cannot be off: operators' commands and doctor need it; write ./off for a file of that "
     "name"},
    {"metrics.address", "[::]:8712", "metrics:8712",
     "\"metrics:8712\" is not an address with a port"},
    {"log.format", "json", "xml", "\"xml\" is not known; allowed: auto, logfmt, json"},
    {"log.level", "debug", "trace", "\"trace\" is not known; allowed: debug, info, warn, error"},
};

std::string shown(const Key& key, const Config& config) {
    if (key.upstream == nullptr) return key.show(config);
    return key.upstream->show(config.lanes.at(kDefaultLaneName));
}

std::string yaml(std::string_view key, std::string_view value) {
    const auto dot = key.find('.');
    if (dot == std::string_view::npos) return fmt::format("{}: \"{}\"\n", key, value);
    return fmt::format("{}:\n  {}: \"{}\"\n", key.substr(0, dot), key.substr(dot + 1), value);
}

Result<Config> from_file(const std::string& text) {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.file = write_file(dir, text);
    return load_config(sources);
}

}  // namespace

TEST_CASE("config/keys: every key has a row here") {
    std::set<std::string_view> tested;
    for (const auto& test : kCases) tested.insert(test.key);
    for (const auto& key : keys()) {
        if (key.read != nullptr) tested.insert(key.name);  // event_rules_test.cpp
    }
    const auto names = key_names();
    CHECK(tested == std::set<std::string_view>(names.begin(), names.end()));
}

TEST_CASE("config/keys: every key is read from the file and from its variable") {
    for (const auto& test : kCases) {
        CAPTURE(test.key);
        const auto* const key = find_key(test.key);
        REQUIRE(key != nullptr);
        const std::string_view beside = test.beside;
        auto text = yaml(test.key, test.good);
        if (!beside.empty()) text += fmt::format("  {}: /x\n", beside.substr(beside.find('.') + 1));
        const auto file = from_file(text);
        REQUIRE(file.has_value());
        CHECK(shown(*key, *file) == test.good);
        auto sources = bare_sources();
        sources.environment.variables[variable_name(test.key)] = test.good;
        if (!beside.empty()) sources.environment.variables[variable_name(beside)] = "/x";
        const auto environment = load_config(sources);
        REQUIRE(environment.has_value());
        CHECK(shown(*key, *environment) == test.good);
    }
}

TEST_CASE("config/keys: every key refuses what it cannot be, with place, key and reason") {
    for (const auto& test : kCases) {
        CAPTURE(test.key);
        const auto text = yaml(test.key, test.bad);
        const auto file = complaint(text);
        CAPTURE(file);
        const auto line = text.front() == 'r' ? ":1:10: " : ":2:";
        CHECK(file.starts_with(line));
        CHECK(file.find(fmt::format("{}: {}", test.key, test.complaint)) != std::string::npos);
        auto sources = bare_sources();
        sources.environment.variables[variable_name(test.key)] = test.bad;
        const auto environment = load_config(sources);
        REQUIRE_FALSE(environment.has_value());
        CHECK(environment.error().code == Errc::config_invalid);
        CHECK(environment.error().context.starts_with(
            fmt::format("{}: {}: {}", variable_name(test.key), test.key, test.complaint)));
    }
}

TEST_CASE("config/keys: null unsets a file and is refused elsewhere") {
    CHECK(complaint("upstream: {api_key_file: null, ca_file: ~}\n").empty());
    CHECK(complaint("upstream: {timeout: null}\n") == ":1:21: upstream.timeout: needs one value");
    CHECK(complaint("spool: {dir: [a]}\n") == ":1:14: spool.dir: needs one value");
}
