#include "observe/metrics.h"

#include <algorithm>

#include "core/assert.h"

namespace opsrelay::observe {

void Histogram::observe(double seconds) noexcept {
    const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);
    const auto index = static_cast<std::size_t>(bound - kBounds.begin());
    buckets_[index].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(seconds, std::memory_order_relaxed);
}

std::array<std::uint64_t, Histogram::kBounds.size() + 1> Histogram::buckets() const noexcept {
    std::array<std::uint64_t, kBounds.size() + 1> copy{};
    for (std::size_t i = 0; i < copy.size(); ++i) {
        copy[i] = buckets_[i].load(std::memory_order_relaxed);
    }
    return copy;
}

template <typename Cell>
Cell& Registry::find_or_make(std::deque<Series<Cell>>& all, const Metric& metric, Kind kind,
                             std::string_view label_value, std::string_view second_value) {
    OPSRELAY_ASSERT(metric.kind == kind);
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
    return find_or_make(counters_, metric, Kind::counter, label_value, second_value);
}

Gauge& Registry::gauge(const Metric& metric, std::string_view label_value,
                       std::string_view second_value) {
    return find_or_make(gauges_, metric, Kind::gauge, label_value, second_value);
}

Histogram& Registry::histogram(const Metric& metric) {
    return find_or_make(histograms_, metric, Kind::histogram, {}, {});
}

}  // namespace opsrelay::observe
