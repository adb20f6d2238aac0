// Prometheus text exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
#include <fmt/format.h>

#include <cmath>

#include "observe/metrics.h"

namespace opsrelay::observe {

namespace {

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

// The labels of one series, without brackets; empty: it has none.
std::string labels_of(const Metric& metric, std::string_view label_value,
                      std::string_view second_value) {
    std::string labels;
    if (metric.label.empty()) return labels;
    labels += fmt::format("{}=\"{}\"", metric.label, escaped(label_value));
    if (!metric.second_label.empty()) {
        labels += fmt::format(",{}=\"{}\"", metric.second_label, escaped(second_value));
    }
    return labels;
}

void append_series(std::string& out, std::string_view name, std::string_view labels,
                   std::string_view value) {
    if (labels.empty()) {
        out += fmt::format("{} {}\n", name, value);
    } else {
        out += fmt::format("{}{{{}}} {}\n", name, labels, value);
    }
}

void append_histogram(std::string& out, std::string_view name, const std::string& labels,
                      const Histogram& histogram) {
    const auto bucket = fmt::format("{}_bucket", name);
    const auto prefix = labels.empty() ? std::string() : labels + ',';
    const auto buckets = histogram.buckets();
    std::uint64_t cumulative = 0;
    const auto& bounds = histogram.bounds();
    for (std::size_t i = 0; i < bounds.size(); ++i) {
        cumulative += buckets[i];
        append_series(out, bucket, fmt::format("{}le=\"{}\"", prefix, bounds[i]),
                      fmt::format("{}", cumulative));
    }
    cumulative += buckets.back();
    const auto count = fmt::format("{}", cumulative);
    append_series(out, bucket, prefix + "le=\"+Inf\"", count);
    append_series(out, fmt::format("{}_sum", name), labels, fmt::format("{:.6f}", histogram.sum()));
    append_series(out, fmt::format("{}_count", name), labels, count);
}

// "+Inf" and not fmt's "inf".
std::string number(double value) {
    if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
    return fmt::format("{}", value);
}

void append_llm(std::string& out, const Metric& metric, const LlmUsage& usage,
                const std::atomic<std::uint64_t> LlmSeries::*total) {
    usage.each([&](const LlmSeries& series) {
        out += fmt::format("{}{{{}=\"{}\",{}=\"{}\",{}=\"{}\",{}=\"{}\"}} {}\n", metric.name,
                           metric.label, escaped(series.provider), metric.second_label,
                           escaped(series.model), metric.more_labels[0],
                           escaped(series.endpoint_tag), metric.more_labels[1],
                           escaped(series.status), (series.*total).load(std::memory_order_relaxed));
    });
}

}  // namespace

std::string Registry::exposition() const {
    std::string out;
    const std::lock_guard lock(mutex_);
    for (const auto* metric : kMetrics) {
        out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", metric->name, metric->help, metric->name,
                           type_name(metric->kind));
        const auto labels = [&](const auto& series) {
            return labels_of(*metric, series.label_value, series.second_value);
        };
        for (const auto& series : counters_) {
            if (series.metric->name != metric->name) continue;
            append_series(out, metric->name, labels(series),
                          fmt::format("{}", series.cell.value()));
        }
        for (const auto& series : gauges_) {
            if (series.metric->name != metric->name) continue;
            append_series(out, metric->name, labels(series), number(series.cell.value()));
        }
        for (const auto& series : histograms_) {
            if (series.metric->name != metric->name) continue;
            append_histogram(out, metric->name, labels(series), series.cell);
        }
        if (metric == &kLlmRequests) append_llm(out, *metric, llm_usage_, &LlmSeries::requests);
        if (metric == &kLlmInputTokens) {
            append_llm(out, *metric, llm_usage_, &LlmSeries::input_tokens);
        }
        if (metric == &kLlmOutputTokens) {
            append_llm(out, *metric, llm_usage_, &LlmSeries::output_tokens);
        }
    }
    return out;
}

}  // namespace opsrelay::observe
