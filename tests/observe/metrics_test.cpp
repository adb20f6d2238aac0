#include "observe/metrics.h"

#include <doctest/doctest.h>

#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <vector>

namespace opsrelay::observe {

TEST_CASE("observe/metrics: names are unique and follow the conventions") {
    std::set<std::string_view> names;
    for (const auto* metric : kMetrics) {
        CAPTURE(metric->name);
        CHECK(names.insert(metric->name).second);
        CHECK((metric->name.starts_with("opsrelay_") || metric->name.starts_with("process_")));
        CHECK_FALSE(metric->help.empty());
        CHECK(metric->name.ends_with("_total") == (type_name(metric->kind) == "counter"));
    }
}

namespace {

// A metric as a row of README.md.
std::string row_of(const Metric& metric) {
    std::string labels;
    for (const auto label :
         {metric.label, metric.second_label, metric.more_labels[0], metric.more_labels[1]}) {
        if (label.empty()) continue;
        labels += labels.empty() ? "{" : ",";
        labels += label;
    }
    if (!labels.empty()) labels += "}";
    return "| `" + std::string(metric.name) + labels + "` | " +
           std::string(type_name(metric.kind)) + " | " + std::string(metric.help);
}

// The rows below the heading "### Metrics".
std::vector<std::string> rows_of_readme() {
    std::ifstream file(OPSRELAY_SOURCE_DIR "/README.md");
    std::vector<std::string> rows;
    bool inside = false;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("#")) inside = line == "### Metrics";
        if (inside && line.starts_with("| `")) rows.push_back(line);
    }
    return rows;
}

}  // namespace

TEST_CASE("observe/metrics: README lists all in this order, with labels, kind and help") {
    const auto rows = rows_of_readme();
    REQUIRE(rows.size() == kMetrics.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        // After the help there may be more for readers.
        const auto row = row_of(*kMetrics.at(i));
        CHECK_MESSAGE(rows[i].starts_with(row), rows[i], " should begin with ", row);
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
    CHECK(text.find("opsrelay_commit_seconds_sum 99.003500\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_seconds_count 3\n") != std::string::npos);
}

TEST_CASE("observe/metrics: a histogram of events has bounds of its own") {
    Registry registry;
    auto& histogram = registry.histogram(kCommitEvents);
    histogram.observe(1);
    histogram.observe(3);
    histogram.observe(9'000);
    const auto text = registry.exposition();
    CHECK(text.find("opsrelay_commit_events_bucket{le=\"1\"} 1\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_events_bucket{le=\"4\"} 2\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_events_bucket{le=\"8192\"} 2\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_events_sum 9004.000000\n") != std::string::npos);
    CHECK(text.find("opsrelay_commit_events_count 3\n") != std::string::npos);
}

TEST_CASE("observe/metrics: no end in sight is written as Prometheus reads it") {
    Registry registry;
    registry.gauge(kOutageLeft).set(std::numeric_limits<double>::infinity());
    CHECK(registry.exposition().find("\nopsrelay_outage_seconds_left +Inf\n") != std::string::npos);
}

TEST_CASE("observe/metrics: a real counter keeps its fraction and is a counter outside") {
    Registry registry;
    registry.gauge(kProcessCpu).set(1.25);
    const auto text = registry.exposition();
    CHECK(text.find("# TYPE process_cpu_seconds_total counter\n") != std::string::npos);
    CHECK(text.find("\nprocess_cpu_seconds_total 1.25\n") != std::string::npos);
}

TEST_CASE("observe/metrics: a histogram with a label shows it in every line, before the bucket") {
    Registry registry;
    registry.histogram(kUpstreamSeconds, "one").observe(0.003);
    registry.histogram(kUpstreamSeconds, "two").observe(0.3);
    const auto text = registry.exposition();
    const char* const lines[] = {
        "opsrelay_upstream_request_seconds_bucket{lane=\"one\",le=\"0.005\"} 1\n",
        "opsrelay_upstream_request_seconds_bucket{lane=\"two\",le=\"0.005\"} 0\n",
        "opsrelay_upstream_request_seconds_bucket{lane=\"two\",le=\"+Inf\"} 1\n",
        "opsrelay_upstream_request_seconds_sum{lane=\"one\"} 0.003000\n",
        "opsrelay_upstream_request_seconds_count{lane=\"two\"} 1\n",
    };
    for (const auto* line : lines) {
        CAPTURE(line);
        CHECK(text.find(line) != std::string::npos);
    }
}

}  // namespace opsrelay::observe
