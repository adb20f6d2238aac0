#include "config/config.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "config/sources.h"

using namespace opsrelay;
using namespace opsrelay::config;
using namespace std::chrono_literals;

namespace {

bool warns(const Config& config, std::string_view text) {
    for (const auto& warning : config.warnings) {
        if (warning.find(text) != std::string::npos) return true;
    }
    return false;
}

std::string context(const Sources& sources) {
    const auto config = load_config(sources);
    return config ? std::string{} : config.error().context;
}

}  // namespace

TEST_CASE("config/config: a spool that is too small for what it should keep is told, not refused") {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.file = write_file(dir, "spool: {max_bytes: 64MiB}\ndedupe: {max_ids: 2000000}\n");
    const auto config = load_config(sources).value();
    REQUIRE(config.warnings.size() == 3);  // the other one: no API key
    CHECK(config.warnings[1] ==
          "dedupe.max_ids: 2000000 ids would take too much of spool.max_bytes (64MiB); "
          "716800 are remembered");
    CHECK(config.warnings[2] ==
          "spool.dead_max_bytes: 64MiB would take too much of spool.max_bytes (64MiB); "
          "lanes park at 4800KiB");
}

TEST_CASE("config/config: without anything the defaults of root apply and a key is asked for") {
    const auto config = load_config(bare_sources()).value();
    CHECK(config.run_dir == "/run/opsrelay");
    CHECK(config.spool.dir == "/var/lib/opsrelay");
    CHECK(config.spool.bytes_max == 512_MiB);
    CHECK(config.shutdown_deadline == 20s);
    CHECK(config.admin.socket == "/run/opsrelay/admin.sock");
    CHECK(config.admin.port == 8711);
    REQUIRE(config.listen.listeners.size() == 5);
    CHECK(config.listen.listeners[0].path == "/run/opsrelay/telemetry.sock");
    CHECK(config.listen.listeners[1].path == "/run/opsrelay/telemetry.stream.sock");
    CHECK(config.listen.listeners[2].port == 8710);
    CHECK(config.listen.listeners[4].path == "/run/opsrelay/http.sock");
    CHECK(warns(config, "no API key"));
}

TEST_CASE("config/config: flags win over variables, variables over the file") {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.file = write_file(dir, "spool: {dir: /file}\nlog: {level: debug}\nrun_dir: /file\n");
    CHECK(load_config(sources).value().spool.dir == "/file");
    sources.environment.variables["OPSRELAY_SPOOL__DIR"] = "/variable";
    sources.environment.variables["OPSRELAY_RUN_DIR"] = "/variable";
    CHECK(load_config(sources).value().spool.dir == "/variable");
    sources.flags.spool_dir = "/flag";
    const auto config = load_config(sources).value();
    CHECK(config.spool.dir == "/flag");
    CHECK(config.run_dir == "/variable");
    CHECK(config.log_level == log::Level::debug);
}

TEST_CASE("config/config: flags are checked like the keys they stand for") {
    auto sources = bare_sources();
    sources.flags.log_level = "loud";
    CHECK(context(sources) ==
          "--log-level: log.level: \"loud\" is not known; allowed: debug, info, warn, error");
    sources = bare_sources();
    sources.flags.admin_port = "70000";
    CHECK(context(sources) == "--admin-port: 70000 is outside [0, 65535]; or write off");
    sources.flags.admin_port = "off";
    CHECK_FALSE(load_config(sources).value().admin.enabled);
    sources.flags.admin_port = "0";
    CHECK(load_config(sources).value().admin.port == 0);
    CHECK_FALSE(load_config(sources).value().metrics.enabled);
    sources.flags.metrics_port = "x";
    CHECK(context(sources).starts_with("--metrics-port: "));
    sources.flags.metrics_port = "9102";
    sources.environment.variables["OPSRELAY_METRICS__ADDRESS"] = "0.0.0.0:1";
    const auto scraped = load_config(sources).value().metrics;
    CHECK(scraped.enabled);
    CHECK(scraped.address == "0.0.0.0");
    CHECK(scraped.port == 9102);
    sources.flags.metrics_port = "off";
    CHECK_FALSE(load_config(sources).value().metrics.enabled);
}

TEST_CASE("config/config: unknown keys are named with place and the nearest known key") {
    struct Case {
        const char* name;
        const char* text;
        const char* complaint;
    };
    const Case cases[] = {
        {"in a section", "spool:\n  max_byte: 1GiB\n",
         ":2:3: spool.max_byte: unknown key; did you mean spool.max_bytes?"},
        {"a section", "\nupstraem: {url: x}\n",
         ":2:1: upstraem: unknown key; did you mean upstream?"},
        {"a key at the top", "max_bytes: 1GiB\n",
         ":1:1: max_bytes: unknown key; did you mean spool.max_bytes?"},
        {"nothing near", "log: {xyzzyxyzzy: 1}\n",
         ":1:7: log.xyzzyxyzzy: unknown key; known are log.format, log.level"},
        {"a listener's", "listeners:\n  - {type: udp, adress: \"127.0.0.1:1\"}\n",
         ":2:17: listeners[0]: adress: unknown key; did you mean address?"},
        {"twice", "spool: {dir: /a, dir: /b}\n", ":1:18: dir: the key is already set in line 1"},
        {"no map", "just words\n", ":1:1: the file must be a map of keys"},
        {"section without a map", "spool: 512MiB\n", ":1:8: spool: must be a map of keys"},
        {"empty section", "spool:\n", ""},
        {"empty file", "", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(complaint(test.text) == test.complaint);
    }
}

TEST_CASE("config/config: unknown variables are errors, those of service links are not ours") {
    struct Case {
        const char* name;
        const char* value;
        const char* complaint;
    };
    const Case cases[] = {
        {"OPSRELAY_SPOOL_DIR", "/x",
         "environment variable OPSRELAY_SPOOL_DIR is unknown; did you mean OPSRELAY_SPOOL__DIR?"},
        {"OPSRELAY_APIKEY", "x",
         "environment variable OPSRELAY_APIKEY is unknown; did you mean OPSRELAY_API_KEY?"},
        {"OPSRELAY_NOTHING_LIKE_IT_AT_ALL", "x",
         "environment variable OPSRELAY_NOTHING_LIKE_IT_AT_ALL is unknown; unset it"},
        {"OPSRELAY_LISTENERS", "x",
         "OPSRELAY_LISTENERS: lists and maps are read from the file only; see --config"},
        {"OPSRELAY_SERVICE_HOST", "10.0.0.1", ""},
        {"OPSRELAY_SERVICE_PORT", "8710", ""},
        {"OPSRELAY_METRICS_SERVICE_PORT_HTTP", "8710", ""},
        {"OPSRELAY_PORT", "tcp://10.0.0.1:8710", ""},
        {"OPSRELAY_PORT_8710_TCP", "tcp://10.0.0.1:8710", ""},
        {"OPSRELAY_PORT_8710_TCP_ADDR", "10.0.0.1", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        auto sources = bare_sources();
        sources.environment.variables[test.name] = test.value;
        CHECK(context(sources) == test.complaint);
    }
}

TEST_CASE("config/config: the API key from the environment is taken, warned about, never shown") {
    auto sources = bare_sources();
    sources.environment.variables["OPSRELAY_API_KEY"] = "sk-secret\n";
    auto config = load_config(sources).value();
    CHECK(config.lanes.at("default").api_key.view() == "sk-secret");
    CHECK(warns(config, "OPSRELAY_API_KEY_FILE"));
    CHECK(to_yaml(config).find("sk-secret") == std::string::npos);
    CHECK(to_yaml(config).find("***") != std::string::npos);
    CHECK(to_json(config).find("sk-secret") == std::string::npos);
    CHECK(to_json(config).find("\"api_key\":\"***\"") != std::string::npos);

    sources.environment.variables["OPSRELAY_API_KEY_FILE"] = "/run/key";
    config = load_config(sources).value();
    CHECK(config.lanes.at("default").api_key.empty());
    CHECK(config.lanes.at("default").api_key_file == "/run/key");
    CHECK(warns(config, "ignored"));

    sources.environment.variables["OPSRELAY_API_KEY"] = "sk secret";
    CHECK(context(sources).find("sk secret") == std::string::npos);
    CHECK(context(sources).starts_with("OPSRELAY_API_KEY: *** is not an API key"));
}

TEST_CASE("config/config: a systemd credential is the key unless another one is given") {
    auto sources = bare_sources();
    auto& variables = sources.environment.variables;
    variables["CREDENTIALS_DIRECTORY"] = "/run/credentials/opsrelay.service";
    const auto file = [&] { return load_config(sources).value().lanes.at("default").api_key_file; };
    CHECK(file() == "/run/credentials/opsrelay.service/api-key");
    variables["OPSRELAY_API_KEY"] = "sk-secret";
    CHECK(file().empty());
    variables["OPSRELAY_API_KEY_FILE"] = "/a";
    CHECK(file() == "/a");
    variables = {{"CREDENTIALS_DIRECTORY", "relative"}};
    CHECK(file().empty());
}

TEST_CASE("config/config: two names of one variable must agree") {
    auto sources = bare_sources();
    sources.environment.variables["OPSRELAY_API_KEY_FILE"] = "/a";
    sources.environment.variables["OPSRELAY_UPSTREAM__API_KEY_FILE"] = "/a";
    CHECK(context(sources).empty());
    sources.environment.variables["OPSRELAY_UPSTREAM__API_KEY_FILE"] = "/b";
    CHECK(context(sources).find("differ") != std::string::npos);
}

TEST_CASE("config/config: the file is asked for by flag, by variable, or may be absent") {
    const test::TempDir dir;
    auto sources = bare_sources();
    sources.default_file = dir / "absent.yaml";
    CHECK(context(sources).empty());
    sources.environment.variables["OPSRELAY_CONFIG"] = dir / "absent.yaml";
    CHECK(context(sources).find("absent.yaml: No such file or directory") != std::string::npos);
    sources.environment.variables["OPSRELAY_CONFIG"] = write_file(dir, "run_dir: /from/file\n");
    CHECK(load_config(sources).value().run_dir == "/from/file");
    sources.file = dir.path();
    CHECK(context(sources).find("is not a regular file") != std::string::npos);
    sources.file = dir / "pipe";
    REQUIRE(::mkfifo(sources.file->c_str(), 0600) == 0);
    CHECK(context(sources).find("is not a regular file") != std::string::npos);
}

TEST_CASE("config/config: without root the directories are the user's own") {
    struct Case {
        const char* name;
        std::map<std::string, std::string> variables;
        const char* run_dir;
        const char* spool_dir;
    };
    const Case cases[] = {
        {"both",
         {{"XDG_RUNTIME_DIR", "/run/user/7"}, {"XDG_STATE_HOME", "/s"}},
         "/run/user/7/opsrelay",
         "/s/opsrelay"},
        {"home",
         {{"XDG_RUNTIME_DIR", "/run/user/7"}, {"HOME", "/home/u"}},
         "/run/user/7/opsrelay",
         "/home/u/.local/state/opsrelay"},
        {"no runtime directory",
         {{"HOME", "/home/u"}},
         "/home/u/.local/state/opsrelay/run",
         "/home/u/.local/state/opsrelay"},
        {"relative ones are ignored",
         {{"XDG_STATE_HOME", "s"}, {"HOME", "/home/u"}},
         "/home/u/.local/state/opsrelay/run",
         "/home/u/.local/state/opsrelay"},
        {"given ones win",
         {{"HOME", "/home/u"}, {"OPSRELAY_RUN_DIR", "/r"}},
         "/r",
         "/home/u/.local/state/opsrelay"},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        auto sources = bare_sources();
        sources.environment.root = false;
        sources.environment.variables = test.variables;
        const auto config = load_config(sources).value();
        CHECK(config.run_dir == test.run_dir);
        CHECK(config.spool.dir == test.spool_dir);
        CHECK(config.admin.socket == std::string(test.run_dir) + "/admin.sock");
    }
    auto sources = bare_sources();
    sources.environment.root = false;
    CHECK(context(sources).find("--spool-dir") != std::string::npos);
}

TEST_CASE("config/config: rules between keys") {
    struct Case {
        const char* name;
        const char* text;
        const char* complaint;
    };
    const Case cases[] = {
        {"stall buffer and spool", "spool: {max_bytes: 64MiB}\nmemory: {stall_buffer: 17MiB}\n",
         "memory.stall_buffer: 17MiB is more than a quarter of spool.max_bytes (64MiB); at most "
         "16MiB"},
        {"body and stall buffer", "http: {max_body: 9MiB}\n",
         "http.max_body: 9MiB is more than memory.stall_buffer (8MiB)"},
        {"gap and timeout", "spool: {commit_gap: 201ms}\n",
         "spool.commit_gap: 201ms is more than half of http.ack_timeout (400ms): no HTTP request "
         "would be confirmed in time"},
        {"plaintext", "upstream: {url: \"http://example.test\"}\n",
         "upstream.url: http://example.test would send the API key unencrypted; use https:// or "
         "set upstream.allow_plaintext: true"},
        {"plaintext to loopback", "upstream: {url: \"http://127.0.0.1:1\"}\n", ""},
        {"plaintext allowed", "upstream: {url: \"http://x\", allow_plaintext: true}\n", ""},
    };
    for (const auto& test : cases) {
        CAPTURE(test.name);
        CHECK(complaint(test.text) == test.complaint);
    }
    auto sources = bare_sources();
    sources.flags.upstream_url = "http://example.test";
    sources.environment.variables["OPSRELAY_UPSTREAM__ALLOW_PLAINTEXT"] = "true";
    CHECK(warns(load_config(sources).value(), "unencrypted"));
}
