// What the accepted events say about the use of language models, by provider, model, endpoint and
// status: opsrelay_llm_*.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

namespace opsrelay::observe {

/// What one event is counted under; views are only looked at. An absent endpointTag is empty.
struct LlmLabels {
    std::string_view provider;
    std::string_view model;
    std::string_view endpoint_tag;
    std::string_view status;
};

/// The totals of one set of labels.
struct LlmSeries {
    std::string provider;
    std::string model;
    std::string endpoint_tag;
    std::string status;
    std::atomic<std::uint64_t> requests{0};
    std::atomic<std::uint64_t> input_tokens{0};
    std::atomic<std::uint64_t> output_tokens{0};

    explicit LlmSeries(const LlmLabels& labels)
        : provider(labels.provider),
          model(labels.model),
          endpoint_tag(labels.endpoint_tag),
          status(labels.status) {}
};

/// What one event adds, and to which series; kept until it is known whether the event is a repeat.
struct LlmCall {
    LlmSeries* series = nullptr;  // nullptr: nothing to count
    std::uint32_t input_tokens = 0;
    std::uint32_t output_tokens = 0;

    /// Any thread.
    void count() const noexcept;
};

/// The series, which are never given back. Their number is bounded, whatever applications send: an
/// endpointTag that comes late counts as `other`, so that it does not crowd out a new model, and
/// when that does not help so do model and provider.
class LlmUsage {
public:
    /// A new endpointTag gets a series of its own while there are fewer.
    static constexpr std::size_t kSeriesWithTags = 384;
    /// A new provider or model does; then two more follow at most, one a status.
    static constexpr std::size_t kSeriesMax = 512;
    /// A longer value, or one with control characters, counts as `other`.
    static constexpr std::size_t kLabelBytesMax = 128;

    LlmUsage();
    LlmUsage(const LlmUsage&) = delete;
    LlmUsage& operator=(const LlmUsage&) = delete;

    /// The series of these labels, for as long as this lives. Thread: one, ingest.
    [[nodiscard]] LlmSeries& of(const LlmLabels& labels);

    /// Any thread: calls visit(series) for each, in the order in which they were made.
    template <typename Visit>
    void each(Visit visit) const {
        const std::lock_guard lock(mutex_);
        for (const auto& series : series_) visit(series);
    }

private:
    struct Slot {
        std::uint64_t hash = 0;
        LlmSeries* series = nullptr;
    };
    // Open addressing, at most half full, which ends every search.
    static constexpr std::size_t kSlots = 2048;
    [[nodiscard]] Slot& slot(const LlmLabels& labels, std::uint64_t hash);
    [[nodiscard]] LlmSeries& make(const LlmLabels& labels);

    // Ingest thread.
    std::array<Slot, kSlots> slots_{};
    // Protected by mutex_ against readers; only the ingest thread adds.
    mutable std::mutex mutex_;
    std::deque<LlmSeries> series_;
};

}  // namespace opsrelay::observe
