#include "cli/status_text.h"

#include <doctest/doctest.h>

using namespace opsrelay;
using namespace opsrelay::cli;

TEST_CASE("cli/status_text: all parts are shown") {
    const auto text = status_text(R"({"version":"0.1.0","ready":false,"reasons":["spool full"],
        "ledger":{"received":12,"duplicates":2,"rejected":1,"shed":0,"accepted":9,"pending":0,
                  "recovered":0,"replayed":0,"delivered":4,"dead":0,"dropped":0,"spooled":5,
                  "imbalance":0,"reasons":{"rejected.bad_tokens":1}},
        "lanes":[{"name":"default","state":"backing_off","since":"2026-01-01T00:00:00.000Z",
                  "retry_at":"2026-01-01T00:01:00.000Z","spooled":5,"oldest_age_s":4000,
                  "deferred":{"events":2,"next":"2026-01-01T06:00:00.000Z"},
                  "late":{"day":3,"month":1},"last_error":"HTTP 503"}],
        "spool":{"bytes":1572864,"limit":536870912,"oldest_age_s":4000,"dead_letters":1},
        "dedupe":{"ids":9,"ids_max":262144,"window_s":4000},
        "listeners":[{"type":"udp","address":"127.0.0.1:8710","received":12,"kernel_drops":3,
                      "inherited":true}]})")
                          .value();
    CAPTURE(text);
    for (const auto* part :
         {"opsrelay 0.1.0: not ready\n  spool full\n", "  received               12",
          "  rejected.bad_tokens", "default: backing_off since 2026-01-01T00:00:00.000Z, next",
          "5 spooled, oldest 1h 6m",
          "deferred: 2 of them, which upstream fails on again and again; next attempt "
          "2026-01-01T06:00:00.000Z\n",
          "late: 3 delivered after their UTC day, 1 of them after their month\n",
          "last error: HTTP 503", "1.5 MiB of 512.0 MiB (0 %)", "1 dead letters", "9 of 262144 ids",
          "12 received, inherited, 3 dropped by the kernel"}) {
        CAPTURE(part);
        CHECK(text.find(part) != std::string::npos);
    }
    CHECK(text.find("imbalance") == std::string::npos);
}

TEST_CASE("cli/status_text: a lane without late and deferred events has no line about them") {
    const auto text = status_text(R"({"lanes":[{"name":"default","state":"active",
        "deferred":{"events":0,"next":null},"late":{"day":0,"month":0}}]})")
                          .value();
    CHECK(text.find("late") == std::string::npos);
    CHECK(text.find("deferred") == std::string::npos);
}

TEST_CASE("cli/status_text: a lane with deferred events only has no oldest in the queue") {
    const auto text = status_text(R"({"lanes":[{"name":"default","state":"active","spooled":2,
        "oldest_age_s":0,"deferred":{"events":2,"next":"2026-01-01T06:00:00.000Z"}}]})")
                          .value();
    CHECK(text.find("default: active, 2 spooled\n    deferred: 2 of them") != std::string::npos);
}

TEST_CASE("cli/status_text: a lane that sends says how many requests at a time") {
    const auto text = status_text(R"({"lanes":[
        {"name":"default","state":"active","spooled":3,"oldest_age_s":2,"concurrency":5},
        {"name":"other","state":"throttled","spooled":0,"concurrency":1}]})")
                          .value();
    CHECK(text.find("default: active, 3 spooled, oldest 2.0s, up to 5 requests at a time\n") !=
          std::string::npos);
    CHECK(text.find("other: throttled, 0 spooled\n") != std::string::npos);
}

TEST_CASE("cli/status_text: absent and strange fields do no harm") {
    CHECK(status_text("{}").value() == "opsrelay : not ready\n");
    CHECK(status_text(R"({"ready":true,"version":3,"lanes":5,"ledger":[],"reasons":[1]})")
              .value()
              .starts_with("opsrelay : ready\n"));
    CHECK(status_text(R"({"lanes":[7],"spool":{"bytes":"x"},"listeners":[[]]})").has_value());
    CHECK(status_text(R"({"lanes":[{"late":1},{"late":{"day":"x"}},{"deferred":[]},
        {"deferred":{"events":1,"next":7}}]})")
              .has_value());
    CHECK_FALSE(status_text("[]").has_value());
    CHECK_FALSE(status_text("no").has_value());
    CHECK(status_text(R"({"reasons":["a\u001b[2Jb"]})").value() ==
          "opsrelay : not ready\n  a [2Jb\n");
    CHECK(printable("a\x1b\n") == "a");
}
