// Prometheus text exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
#include <fmt/format.h>

#include <iterator>

#include "observe/metrics.h"

namespace opsrelay::observe {

namespace {

std::string_view kind_name(Kind kind) {
    switch (kind) {
        case Kind::counter: return "counter";
        case Kind::gauge: return "gauge";
        case Kind::histogram: return "histogram";
    }
    return "untyped";
}

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += c;
        }
    }
    return out;
}

void append_series(std::string& out, const Metric& metric, std::string_view label_value,
                   std::string_view second_value, std::string_view value) {
    auto to = std::back_inserter(out);
    out += metric.name;
    if (!metric.label.empty()) {
        fmt::format_to(to, "{{{}=\"{}\"", metric.label, escaped(label_value));
        if (!metric.second_label.empty()) {
            fmt::format_to(to, ",{}=\"{}\"", metric.second_label, escaped(second_value));
        }
        out += '}';
    }
    fmt::format_to(to, " {}\n", value);
}

void append_histogram(std::string& out, const Metric& metric, const Histogram& histogram) {
    const auto buckets = histogram.buckets();
    std::uint64_t cumulative = 0;
    auto to = std::back_inserter(out);
    for (std::size_t i = 0; i < Histogram::kBounds.size(); ++i) {
        cumulative += buckets[i];
        fmt::format_to(to, "{}_bucket{{le=\"{}\"}} {}\n", metric.name, Histogram::kBounds[i],
                       cumulative);
    }
    cumulative += buckets.back();
    fmt::format_to(to, "{}_bucket{{le=\"+Inf\"}} {}\n", metric.name, cumulative);
    fmt::format_to(to, "{}_sum {:.6f}\n{}_count {}\n", metric.name, histogram.sum(), metric.name,
                   cumulative);
}

}  // namespace

std::string Registry::exposition() const {
    std::string out;
    const std::lock_guard lock(mutex_);
    for (const auto* metric : kMetrics) {
        fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", metric->name,
                       metric->help, metric->name, kind_name(metric->kind));
        for (const auto& series : counters_) {
            if (series.metric->name != metric->name) continue;
            append_series(out, *metric, series.label_value, series.second_value,
                          fmt::format("{}", series.cell.value()));
        }
        for (const auto& series : gauges_) {
            if (series.metric->name != metric->name) continue;
            append_series(out, *metric, series.label_value, series.second_value,
                          fmt::format("{}", series.cell.value()));
        }
        for (const auto& series : histograms_) {
            if (series.metric->name == metric->name) append_histogram(out, *metric, series.cell);
        }
    }
    return out;
}

}  // namespace opsrelay::observe
