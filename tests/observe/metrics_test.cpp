#include "observe/metrics.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace opsrelay::observe {

TEST_CASE("observe/metrics: names are unique and follow the conventions") {
    std::set<std::string_view> names;
    for (const auto* metric : kMetrics) {
        CAPTURE(metric->name);
        CHECK(names.insert(metric->name).second);
        CHECK(metric->name.substr(0, 9) == "opsrelay_");
        CHECK_FALSE(metric->help.empty());
        const bool total =
            metric->name.size() > 6 && metric->name.substr(metric->name.size() - 6) == "_total";
        CHECK(total == (metric->kind == Kind::counter));
    }
}

TEST_CASE("observe/metrics: a series is made once and keeps its value") {
    Registry registry;
    auto& drops = registry.counter(kKernelDrops, "127.0.0.1:8710");
    drops.add(3);
    CHECK(&registry.counter(kKernelDrops, "127.0.0.1:8710") == &drops);
    CHECK(&registry.counter(kKernelDrops, "[::1]:8710") != &drops);
    CHECK(registry.counter(kKernelDrops, "127.0.0.1:8710").value() == 3);
}

TEST_CASE("observe/metrics: label values are escaped") {
    Registry registry;
    registry.counter(kKernelDrops, "a\"b\\c\nd").add();
    CHECK(registry.exposition().find(
              "opsrelay_kernel_drops_total{listener=\"a\\\"b\\\\c\\nd\"} 1\n") !=
          std::string::npos);
}

TEST_CASE("observe/metrics: two labels tell series apart and are both shown") {
    Registry registry;
    registry.gauge(kLaneState, "default", "active").set(1);
    registry.gauge(kLaneState, "second", "active").set(0);
    registry.gauge(kLaneRetryAt, "second").set(5);
    const auto text = registry.exposition();
    CHECK(text.find("opsrelay_lane_state{lane=\"default\",state=\"active\"} 1\n") !=
          std::string::npos);
    CHECK(text.find("opsrelay_lane_state{lane=\"second\",state=\"active\"} 0\n") !=
          std::string::npos);
    CHECK(text.find("opsrelay_lane_retry_at_seconds{lane=\"second\"} 5\n") != std::string::npos);
}

TEST_CASE("observe/metrics: histogram buckets are cumulative and end with +Inf") {
    Registry registry;
    auto& histogram = registry.histogram(kCommitSeconds);
    histogram.observe(0.0005);  // a bound belongs to its own bucket
    histogram.observe(0.003);
    histogram.observe(99);
    const auto text = registry.exposition();
    CHECK(text.find("opsrelay_commit_seconds_bucket{le=\"0.0005\"} 1\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_seconds_bucket{le=\"0.005\"} 2\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_seconds_bucket{le=\"10\"} 2\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_seconds_bucket{le=\"+Inf\"} 3\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_seconds_count 3\n") != std::string::npos);
}

}  // namespace opsrelay::observe
