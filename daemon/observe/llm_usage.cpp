#include "observe/llm_usage.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

namespace opsrelay::observe {

namespace {

constexpr std::string_view kOther = "other";

// UTF-8 was checked when the event was read.
std::string_view label(std::string_view text) noexcept {
    if (text.size() > LlmUsage::kLabelBytesMax) return kOther;
    const auto control = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte < 0x20 || byte == 0x7f;
    };
    return std::any_of(text.begin(), text.end(), control) ? kOther : text;
}

std::uint64_t hash_of(const LlmLabels& labels) noexcept {
    std::uint64_t hash = 0;
    for (const auto text : {labels.provider, labels.model, labels.endpoint_tag, labels.status}) {
        hash = XXH3_64bits_withSeed(text.data(), text.size(), hash);
    }
    return hash;
}

bool same(const LlmSeries& series, const LlmLabels& labels) noexcept {
    return series.model == labels.model && series.endpoint_tag == labels.endpoint_tag &&
           series.status == labels.status && series.provider == labels.provider;
}

}  // namespace

void LlmCall::count() const noexcept {
    if (series == nullptr) return;
    series->requests.fetch_add(1, std::memory_order_relaxed);
    series->input_tokens.fetch_add(input_tokens, std::memory_order_relaxed);
    series->output_tokens.fetch_add(output_tokens, std::memory_order_relaxed);
}

LlmUsage::LlmUsage() { static_assert(kSlots >= 2 * (kSeriesMax + 2)); }

LlmSeries& LlmUsage::of(const LlmLabels& labels) {
    const LlmLabels wanted{label(labels.provider), label(labels.model), label(labels.endpoint_tag),
                           labels.status};
    const auto hash = hash_of(wanted);
    auto& found = slot(wanted, hash);
    if (found.series != nullptr) return *found.series;
    LlmLabels given = wanted;
    if (series_.size() >= kSeriesWithTags) given.endpoint_tag = kOther;
    auto& without_tag = slot(given, hash_of(given));
    if (without_tag.series == nullptr && series_.size() >= kSeriesMax) {
        given.provider = given.model = kOther;
    }
    return make(given);
}

// The slot of these labels, or the empty one where they would go.
LlmUsage::Slot& LlmUsage::slot(const LlmLabels& labels, std::uint64_t hash) {
    auto at = hash % kSlots;
    while (slots_[at].series != nullptr &&
           (slots_[at].hash != hash || !same(*slots_[at].series, labels))) {
        at = (at + 1) % kSlots;
    }
    return slots_[at];
}

// The series of these labels, which is made when there is none.
LlmSeries& LlmUsage::make(const LlmLabels& labels) {
    const auto hash = hash_of(labels);
    auto& place = slot(labels, hash);
    if (place.series == nullptr) {
        const std::lock_guard lock(mutex_);
        place = {hash, &series_.emplace_back(labels)};
    }
    return *place.series;
}

}  // namespace opsrelay::observe
