#include "control/status.h"

#include <doctest/doctest.h>

namespace opsrelay::control {

TEST_CASE("control/status: the JSON has every documented field") {
    StatusView status;
    status.version = "1.2.3";
    status.reasons = {"spool_full", "say \"why\""};
    status.lanes.push_back({.name = "default",
                            .state = "throttled",
                            .since_unix_ms = 1'767'225'600'123,
                            .retry_at_unix_ms = 1'767'225'601'000,
                            .spooled = 7,
                            .deferred = 2,
                            .deferred_due_unix_ms = 1'767'225'602'000,
                            .concurrency = 6,
                            .oldest_age_s = 12.34,
                            .late_day = 6,
                            .late_month = 5,
                            .last_error = "HTTP 429",
                            .next = "it waits"});
    status.spool_bytes = 10;
    status.spool_limit = 20;
    status.damaged = {"/spool/damaged-1"};
    status.repaired = {"/spool/repaired-2"};
    status.spool_reserve = 4;
    status.spool_oldest_age_s = 12.34;
    status.dead_letters = 1;
    status.dead_bytes = 300;
    status.dead_bytes_limit = 400;
    status.dedupe_ids = 3;
    status.dedupe_ids_max = 4;
    status.dedupe_window_s = 60;
    status.listeners.push_back({"udp", "127.0.0.1:8710", 5, 2});
    CHECK(to_json(status) ==
          R"({"version":"1.2.3","ready":false,"reasons":["spool_full","say \"why\""],)"
          R"("ledger":{"received":0,"duplicates":0,"rejected":0,"shed":0,"accepted":0,"pending":0,)"
          R"("recovered":0,"replayed":0,"delivered":0,"dead":0,"dropped":0,"spooled":0,)"
          R"("imbalance":0,"reasons":{}},)"
          R"("lanes":[{"name":"default","state":"throttled","since":"2026-01-01T00:00:00.123Z",)"
          R"("retry_at":"2026-01-01T00:00:01.000Z","spooled":7,)"
          R"("deferred":{"events":2,"next":"2026-01-01T00:00:02.000Z"},"concurrency":6,)"
          R"("oldest_age_s":12.3,)"
          R"("late":{"day":6,"month":5},"last_error":"HTTP 429","next":"it waits"}],)"
          R"("spool":{"bytes":10,"limit":20,"reserve":4,"oldest_age_s":12.3,"dead_letters":1,)"
          R"("dead_bytes":300,"dead_limit":400,"damaged":["/spool/damaged-1"],)"
          R"("repaired":["/spool/repaired-2"]},)"
          R"("dedupe":{"ids":3,"ids_max":4,"window_s":60.0},)"
          R"("listeners":[{"type":"udp","address":"127.0.0.1:8710","received":5,)"
          R"("kernel_drops":2,"inherited":false}]})");
    CHECK(readiness_json(status) == R"({"ready":false,"reasons":["spool_full","say \"why\""]})");
}

TEST_CASE("control/status: what is absent is null") {
    StatusView status;
    status.ready = true;
    status.lanes.push_back({.name = "default",
                            .state = "active",
                            .since_unix_ms = 0,
                            .retry_at_unix_ms = std::nullopt,
                            .spooled = 0,
                            .deferred = 0,
                            .deferred_due_unix_ms = std::nullopt,
                            .concurrency = 0,
                            .oldest_age_s = 0,
                            .late_day = 0,
                            .late_month = 0,
                            .last_error = "",
                            .next = ""});
    const auto json = to_json(status);
    CHECK(json.find(R"("since":null,"retry_at":null)") != std::string::npos);
    CHECK(json.find(R"("last_error":null,"next":null)") != std::string::npos);
    CHECK(json.find(R"("ready":true,"reasons":[])") != std::string::npos);
}

}  // namespace opsrelay::control
