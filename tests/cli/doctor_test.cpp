// What `doctor` makes of what it sees, and the command around it.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <initializer_list>

#include "cli/doctor_disk.h"
#include "cli/doctor_sockets.h"
#include "cli/doctor_system.h"
#include "cli/doctor_upstream.h"
#include "cli/fake_server.h"
#include "cli/run_command.h"
#include "support/temp_dir.h"

using namespace opsrelay;
using namespace opsrelay::cli;

namespace {

constexpr std::int64_t kNow = 1'800'000'000'000;
constexpr std::int64_t kDay = 86'400'000;

/// Everything as it should be.
UpstreamReport healthy() {
    UpstreamReport report;
    report.key = UpstreamReport::Key::read;
    report.host = "api.example";
    report.addresses = {"192.0.2.1"};
    report.address = "192.0.2.1";
    report.connected = true;
    report.tls = true;
    report.certificate_issuer = "/CN=authority";
    report.certificate_end_unix_ms = kNow + 90 * kDay;
    report.asked = true;
    report.status = 200;
    report.verdict = "delivered";
    report.readable = true;
    report.replied_unix_ms = kNow;
    report.date_unix_ms = kNow - 400;
    return report;
}

/// The finding of this check; a check that was not made is one without a name.
Finding find(const Findings& findings, std::string_view check) {
    for (const auto& one : findings) {
        if (one.check == check) return one;
    }
    return {};
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

/// `doctor` with a directory of its own and an upstream that is as `report` says.
Outcome doctor(const test::TempDir& dir, std::initializer_list<std::string> more,
               const UpstreamReport& report = healthy()) {
    auto program = bare_program();
    program.try_upstream = [report](const forward::Options&, milliseconds) { return report; };
    std::vector<std::string> arguments{"doctor",      "--run-dir",    dir / "run", "--spool-dir",
                                       dir / "spool", "--http-port",  "0",         "--udp-port",
                                       "0",           "--admin-port", "off"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_command(arguments, std::move(program));
}

}  // namespace

TEST_CASE("cli/doctor_upstream: all is well") {
    const forward::Options options;
    const auto found = judge_upstream("default", options, healthy(), kNow);
    CHECK(found.size() == 6);
    for (const auto& one : found) {
        CAPTURE(one.check);
        CAPTURE(one.detail);
        CHECK(one.health == Health::ok);
        CHECK(one.remedy.empty());
        CHECK(one.lane == "default");
    }
}

TEST_CASE("cli/doctor_upstream: every step that can fail has its check, cause and remedy") {
    struct Case {
        const char* name;
        void (*spoil)(UpstreamReport&);
        const char* check;
        Health health;
        const char* detail;
        const char* remedy;
    };
    const Case cases[] = {
        {"no key", [](UpstreamReport& r) { r.key = UpstreamReport::Key::none; }, "key",
         Health::warn, "no API key", "OPSRELAY_API_KEY_FILE"},
        {"key file",
         [](UpstreamReport& r) {
             r.key = UpstreamReport::Key::unreadable;
             r.key_error = "/k: Permission denied";
         },
         "key", Health::fail, "/k: Permission denied", "upstream.api_key_file"},
        {"certificate file", [](UpstreamReport& r) { r.unusable = "upstream.ca_file: no"; },
         "connect", Health::fail, "upstream.ca_file: no", "correct the key"},
        {"unknown name", [](UpstreamReport& r) { r.resolve_error = "api.example: not known"; },
         "resolve", Health::fail, "api.example: not known", "/etc/resolv.conf"},
        {"slow name server", [](UpstreamReport& r) { r.resolve_time = seconds{2}; }, "resolve",
         Health::warn, "after 2000 ms", "name server"},
        {"refused",
         [](UpstreamReport& r) {
             r.connected = false;
             r.connect_error = "refused: connect to 192.0.2.1:443";
         },
         "connect", Health::fail, "refused: connect", "firewall"},
        {"bad certificate",
         [](UpstreamReport& r) {
             r.connected = false;
             r.connect_error = "tls: certificate refused: self-signed certificate";
         },
         "connect", Health::fail, "self-signed", "upstream.ca_file"},
        {"expires soon", [](UpstreamReport& r) { r.certificate_end_unix_ms = kNow + 3 * kDay + 1; },
         "certificate", Health::warn, "3 days", "renewed"},
        {"wrong key",
         [](UpstreamReport& r) {
             r.status = 401;
             r.verdict = "unauthorized";
         },
         "answer", Health::fail, "HTTP 401", "the key was refused"},
        {"wrong path",
         [](UpstreamReport& r) {
             r.status = 404;
             r.verdict = "misconfigured";
         },
         "answer", Health::fail, "HTTP 404", "upstream.url"},
        {"trouble",
         [](UpstreamReport& r) {
             r.status = 503;
             r.verdict = "backoff";
         },
         "answer", Health::warn, "HTTP 503", "sent again"},
        {"plan",
         [](UpstreamReport& r) {
             r.status = 402;
             r.verdict = "plan_limited";
         },
         "answer", Health::warn, "HTTP 402", "spooled"},
        {"something else", [](UpstreamReport& r) { r.readable = false; }, "answer", Health::fail,
         "not the API's answer", "check the URL"},
        {"paused", [](UpstreamReport& r) { r.paused = true; }, "answer", Health::warn,
         "the plan's limit", "next period"},
        {"over budget", [](UpstreamReport& r) { r.over_budget = true; }, "answer", Health::warn,
         "a budget is exceeded", "budgets"},
        {"no reply",
         [](UpstreamReport& r) {
             r.status = 0;
             r.ask_error = "timeout: read reply";
         },
         "answer", Health::fail, "timeout: read reply", "behind the URL"},
        {"a clock behind", [](UpstreamReport& r) { r.date_unix_ms = kNow + 30'000; }, "clock",
         Health::warn, "30.0 s behind upstream's", "set the clock"},
        {"a clock far ahead", [](UpstreamReport& r) { r.date_unix_ms = kNow - kDay; }, "clock",
         Health::fail, "86400.0 s ahead of upstream's", "set the clock"},
    };
    const forward::Options options;
    for (const auto& test : cases) {
        CAPTURE(test.name);
        auto report = healthy();
        test.spoil(report);
        const auto found = find(judge_upstream("default", options, report, kNow),
                                fmt::format("upstream.{}", test.check));
        CAPTURE(found.detail);
        CAPTURE(found.remedy);
        CHECK(found.health == test.health);
        CHECK(has(found.detail, test.detail));
        CHECK(has(found.remedy, test.remedy));
    }
}

TEST_CASE("cli/doctor_upstream: what was not tried is not judged") {
    const forward::Options options;
    auto report = healthy();
    report.resolve_error = "not known";
    CHECK(find(judge_upstream("default", options, report, kNow), "upstream.connect").check.empty());
    auto keyless = healthy();
    keyless.asked = false;
    keyless.date_unix_ms.reset();
    const auto found = judge_upstream("default", options, keyless, kNow);
    CHECK(find(found, "upstream.answer").check.empty());
    CHECK(find(found, "upstream.clock").check.empty());
    // A taker of batches may not know the path.
    forward::Options batch;
    batch.kind = forward::UpstreamKind::batch;
    auto missing = healthy();
    missing.status = 404;
    CHECK(find(judge_upstream("other", batch, missing, kNow), "upstream.answer").health ==
          Health::warn);
}

TEST_CASE("cli/doctor_upstream: the credentials of a proxy are not shown") {
    forward::Options options;
    options.proxy = parse_proxy("http://user:planted@proxy.example:3128").value();
    const auto found = judge_upstream("default", options, healthy(), kNow);
    const auto proxy = find(found, "upstream.proxy");
    CHECK(has(proxy.detail, "proxy.example:3128"));
    CHECK_FALSE(has(findings_text(found), "planted"));
}

TEST_CASE("cli/doctor_disk: file system, space and latency are judged") {
    config::Config config;
    config.spool.dir = "/spool";
    DiskFacts facts;
    facts.total = 100ULL << 30U;
    facts.free = 50ULL << 30U;
    facts.kind = EXT4_SUPER_MAGIC;
    facts.samples = kSyncSamples;
    facts.sync_us.fill(2'000);
    for (const auto& one : judge_disk(config, "/spool", facts)) CHECK(one.health == Health::ok);

    const auto judged = [&config](DiskFacts changed, std::string_view check) {
        return find(judge_disk(config, "/spool", changed), check);
    };
    auto changed = facts;
    changed.kind = TMPFS_MAGIC;
    CHECK(judged(changed, "spool.filesystem").health == Health::warn);
    config.ephemeral = true;
    CHECK(judged(changed, "spool.filesystem").health == Health::ok);
    changed.kind = NFS_SUPER_MAGIC;
    CHECK(judged(changed, "spool.filesystem").health == Health::warn);
    changed.kind = 0x1234;
    CHECK(has(judged(changed, "spool.filesystem").detail, "0x1234"));
    changed.free = 100U << 20U;
    CHECK(judged(changed, "spool.space").health == Health::warn);
    changed.free = 1U << 20U;
    CHECK(judged(changed, "spool.space").health == Health::fail);
    changed.sync_us.fill(80'000);
    CHECK(has(judged(changed, "spool.sync").detail, "80.0 ms in the middle"));
    CHECK(judged(changed, "spool.sync").health == Health::warn);
    changed.sync_us[3] = 500'000;
    CHECK(has(judged(changed, "spool.sync").remedy, "http.ack_timeout (400 ms)"));
    changed.write_error = EIO;
    CHECK(judged(changed, "spool.sync").health == Health::fail);
    changed.open_error = EACCES;
    const auto denied = judge_disk(config, "/spool", changed);
    CHECK(denied.size() == 1);
    CHECK(denied.front().health == Health::fail);
    CHECK(has(denied.front().detail, "/spool: Permission denied"));
}

TEST_CASE("cli/doctor_disk: measuring leaves nothing behind") {
    const test::TempDir dir;
    const SystemClock clock;
    const auto facts = look_at_disk(dir.path(), clock, clock.now() + minutes{1}).value();
    CHECK(facts.open_error == 0);
    CHECK(facts.write_error == 0);
    CHECK(facts.samples == kSyncSamples);
    CHECK(facts.total > 0);
    CHECK(std::filesystem::is_empty(dir.path()));
    std::ofstream(dir / "file") << "x";
    CHECK(look_at_disk(dir / "file", clock, clock.now() + minutes{1}).value().open_error ==
          ENOTDIR);
    // No time at all is a finding, not a wait.
    config::Config config;
    config.spool.dir = dir.path();
    const auto late = check_disk(config, clock, clock.now() - seconds{1});
    CHECK(late.front().check == "spool.sync");
    CHECK(late.front().health == Health::fail);
}

TEST_CASE("cli/doctor_disk: a directory that is still to be made is looked at where it will be") {
    const test::TempDir dir;
    const SystemClock clock;
    config::Config config;
    config.spool.dir = dir / "not/there/yet";
    const auto found = check_disk(config, clock, clock.now() + minutes{1});
    CHECK(find(found, "spool.directory").detail ==
          fmt::format("{} is made at start, in {}", config.spool.dir, dir.path()));
    CHECK(std::filesystem::is_empty(dir.path()));
}

TEST_CASE("cli/doctor_system: limits are judged only where a listener needs them") {
    config::Config config;
    SystemFacts facts;
    facts.rmem_max = 212'992;
    facts.max_dgram_qlen = 10;
    facts.open_files = 512;
    const auto without = judge_system(config, facts);
    CHECK(without.size() == 1);
    CHECK(without.front().health == Health::warn);
    CHECK(has(without.front().remedy, "LimitNOFILE=1280"));
    config.listen.listeners.resize(2);
    config.listen.listeners[0].kind = ListenerKind::udp;
    config.listen.listeners[1].kind = ListenerKind::unix_datagram;
    const auto found = judge_system(config, facts);
    CHECK(has(find(found, "system.rmem_max").remedy, "net.core.rmem_max=4194304"));
    CHECK(find(found, "system.max_dgram_qlen").health == Health::warn);
    facts.rmem_max = 8U << 20U;
    facts.max_dgram_qlen = 512;
    facts.open_files = 524'288;
    for (const auto& one : judge_system(config, facts)) {
        CHECK(one.health == Health::ok);
        CHECK(one.remedy.empty());
    }
    CHECK(judge_system(config, {}).empty());
}

TEST_CASE("cli/doctor: without a daemon it works, makes nothing and exits with 0") {
    const test::TempDir dir;
    const auto text = doctor(dir, {});
    CAPTURE(text.out);
    CHECK(text.err.empty());
    CHECK(text.code == 0);
    CHECK(has(text.out, "warn  daemon"));
    CHECK(has(text.out, "no daemon runs: "));
    CHECK(has(text.out, "telemetry.sock: made at start"));
    CHECK(has(text.out, "is made at start, in " + dir.path()));
    CHECK(has(text.out, ", 0 failed\n"));
    CHECK(std::filesystem::is_empty(dir.path()));
    const auto json = doctor(dir, {"--output", "json"});
    CHECK(json.out.starts_with("{\"ok\":true,\"checks\":[{\"check\":\"config\",\"lane\":null,"));
    CHECK(has(json.out, "\"check\":\"upstream.key\",\"lane\":\"default\",\"result\":\"ok\""));
}

TEST_CASE("cli/doctor: a failed check exits with 1") {
    const test::TempDir dir;
    auto report = healthy();
    report.status = 401;
    const auto refused = doctor(dir, {"--output", "json"}, report);
    CHECK(refused.code == 1);
    CHECK(refused.out.starts_with("{\"ok\":false,"));

    std::ofstream(dir / "bad.yaml") << "spool: {max_byte: 1GiB}\n";
    const auto config = doctor(dir, {"--config", dir / "bad.yaml"});
    CHECK(config.code == 1);
    CHECK(has(config.out, "fail  config  "));
    CHECK(has(config.out, "did you mean spool.max_bytes?"));
    CHECK(doctor(dir, {"--timeout", "5"}).code == 2);
}

TEST_CASE("cli/doctor_sockets: what stands in the way of a start is found") {
    const test::TempDir dir;
    std::filesystem::create_directory(dir / "run");
    std::ofstream(dir / "run/telemetry.sock") << "a file";
    const FakeServer other(dir / "run/telemetry.stream.sock", {[](int) {}});
    const auto found = doctor(dir, {});
    CAPTURE(found.out);
    CHECK(found.code == 1);
    CHECK(has(found.out, "telemetry.sock: something else than a socket"));
    CHECK(has(found.out, "telemetry.stream.sock: another process listens there"));
}

TEST_CASE("cli/doctor_sockets: what a daemon holds that does not answer is not to be stopped") {
    const test::TempDir dir;
    std::filesystem::create_directory(dir / "run");
    FakeServer admin(dir / "run/admin.sock", {[](int fd) {
                         char bytes[256];
                         while (::recv(fd, bytes, sizeof bytes, 0) > 0) continue;
                     }});
    const FakeServer stream(dir / "run/telemetry.stream.sock", {[](int) {}});
    const auto found = doctor(dir, {"--timeout", "50ms"});
    CAPTURE(found.out);
    CHECK(has(found.out, "no answer in time"));
    CHECK(has(found.out, "telemetry.stream.sock: in use, as by a daemon"));
    CHECK_FALSE(has(found.out, "another process listens there"));
    admin.join();
}

TEST_CASE("cli/doctor_sockets: a daemon's answer is told, and its sockets are tried") {
    const test::TempDir dir;
    std::filesystem::create_directory(dir / "run");
    FakeServer admin(
        dir / "run/admin.sock",
        {http_answer(http_reply(200, R"({"version":"9","ready":true})")),
         http_answer(http_reply(200, R"({"version":"9","ready":false,"reasons":["spool_full"]})")),
         http_answer(http_reply(403, "{}")), http_answer("220 mail ESMTP\r\n\r\n")});
    const FakeServer stream(dir / "run/telemetry.stream.sock", {[](int) {}});
    ::chmod((dir / "run/telemetry.stream.sock").c_str(), 0600);
    const auto ready = doctor(dir, {});
    CAPTURE(ready.out);
    CHECK(has(ready.out, "version 9 answers at"));
    CHECK(has(ready.out, "reachable, mode 0600, but 0666 is configured"));
    CHECK(has(ready.out, "telemetry.sock: it is not there, though a daemon runs"));
    CHECK(ready.code == 1);
    CHECK(has(doctor(dir, {}).out, "not ready: spool_full"));
    CHECK(has(doctor(dir, {}).out, "this user may not ask"));
    CHECK(has(doctor(dir, {}).out, "the answer is not from opsrelay"));
    CHECK(admin.join() == 4);
}

TEST_CASE("cli/doctor_report: text and JSON hold what a hostile answer says") {
    const Findings found{{"a.b", "lane", Health::fail, "x\x1b[2Jy\"", "do \"z\""}};
    CHECK(has(findings_text(found), "fail  a.b (lane)  x [2Jy\"\n"));
    CHECK(has(findings_text(found), "next: do \"z\"\n\n0 ok, 0 to look at, 1 failed\n"));
    CHECK(findings_json(found) ==
          "{\"ok\":false,\"checks\":[{\"check\":\"a.b\",\"lane\":\"lane\",\"result\":\"fail\","
          "\"detail\":\"x\\u001b[2Jy\\\"\",\"remedy\":\"do \\\"z\\\"\"}]}\n");
}
