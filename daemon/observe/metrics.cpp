#include "observe/metrics.h"

#include <algorithm>

#include "core/assert.h"

namespace opsrelay::observe {

std::string_view type_name(Kind kind) noexcept {
    switch (kind) {
        case Kind::counter:
        case Kind::real_counter: return "counter";
        case Kind::gauge: return "gauge";
        case Kind::histogram: return "histogram";
    }
    return "untyped";
}

Histogram::Histogram(const Metric& metric) noexcept
    : bounds_(metric.name.ends_with("_seconds") ? kSeconds : kEvents) {}

void Histogram::observe(double value) noexcept {
    const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
    const auto index = static_cast<std::size_t>(bound - bounds_.begin());
    buckets_[index].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
}

std::array<std::uint64_t, std::tuple_size_v<Histogram::Bounds> + 1> Histogram::buckets()
    const noexcept {
    std::array<std::uint64_t, std::tuple_size_v<Bounds> + 1> copy{};
    for (std::size_t i = 0; i < copy.size(); ++i) {
        copy[i] = buckets_[i].load(std::memory_order_relaxed);
    }
    return copy;
}

template <typename Cell>
Cell& Registry::find_or_make(std::deque<Series<Cell>>& all, const Metric& metric,
                             std::string_view label_value, std::string_view second_value) {
    OPSRELAY_ASSERT(metric.label.empty() == label_value.empty());
    OPSRELAY_ASSERT(metric.second_label.empty() == second_value.empty());
    const std::lock_guard lock(mutex_);
    for (auto& series : all) {
        if (series.metric->name == metric.name && series.label_value == label_value &&
            series.second_value == second_value) {
            return series.cell;
        }
    }
    return all.emplace_back(&metric, label_value, second_value).cell;
}

Counter& Registry::counter(const Metric& metric, std::string_view label_value,
                           std::string_view second_value) {
    OPSRELAY_ASSERT(metric.kind == Kind::counter);
    return find_or_make(counters_, metric, label_value, second_value);
}

Gauge& Registry::gauge(const Metric& metric, std::string_view label_value,
                       std::string_view second_value) {
    OPSRELAY_ASSERT(metric.kind == Kind::gauge || metric.kind == Kind::real_counter);
    return find_or_make(gauges_, metric, label_value, second_value);
}

Histogram& Registry::histogram(const Metric& metric, std::string_view label_value,
                               std::string_view second_value) {
    OPSRELAY_ASSERT(metric.kind == Kind::histogram);
    return find_or_make(histograms_, metric, label_value, second_value);
}

}  // namespace opsrelay::observe
