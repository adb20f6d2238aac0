#include "spool/id_plan.h"

#include <algorithm>
#include <map>

#include "core/assert.h"

namespace opsrelay::spool {
IdPlan::IdPlan(milliseconds window, std::uint64_t ids_max)
    : window_ms_(window.count()),
      span_ms_(std::max<std::int64_t>(1, window.count() / std::int64_t{kGenerations})),
      ids_max_(ids_max),
      generation_ids_(std::max<std::uint64_t>(1, ids_max / kGenerations)) {
    OPSRELAY_ASSERT(ids_max > 0);
}

void IdPlan::set_runs(std::span<const IdRun> runs) {
    std::map<std::uint32_t, Generation> by_number;
    ids_ = 0;
    for (const auto& [info, filter] : runs) {
        auto& generation = by_number[info.name.generation];
        const bool first = generation.runs.empty();
        generation.number = info.name.generation;
        generation.runs.push_back(info.name);
        generation.ids += info.ids;
        generation.oldest_ms =
            first ? info.oldest_ms : std::min(generation.oldest_ms, info.oldest_ms);
        generation.newest_ms = std::max(generation.newest_ms, info.newest_ms);
        ids_ += info.ids;
        last_run_ = std::max(last_run_, info.name.run);
    }
    generations_.clear();
    for (auto& [number, generation] : by_number) {
        std::sort(generation.runs.begin(), generation.runs.end());
        generations_.push_back(std::move(generation));
    }
    if (!generations_.empty()) {
        last_generation_ = std::max(last_generation_, generations_.back().number);
    }
}

RunName IdPlan::output_in(std::uint32_t generation) { return {generation, ++last_run_}; }

RunName IdPlan::next_run(std::int64_t oldest_ms) {
    const bool fits = !generations_.empty() && generations_.back().number == last_generation_ &&
                      generations_.back().ids < generation_ids_ && oldest_ms < *generation_end_ms();
    if (!fits) ++last_generation_;
    return output_in(last_generation_);
}

std::optional<std::int64_t> IdPlan::generation_end_ms() const noexcept {
    if (generations_.empty()) return std::nullopt;
    return generations_.back().oldest_ms + span_ms_;
}

std::vector<RunName> IdPlan::expired(std::int64_t now_ms, std::uint64_t unsealed) const {
    std::vector<RunName> names;
    auto left = ids_ + unsealed;
    for (const auto& generation : generations_) {
        left -= generation.ids;
        if (generation.newest_ms + window_ms_ >= now_ms && left < ids_max_) break;
        names.insert(names.end(), generation.runs.begin(), generation.runs.end());
    }
    return names;
}

RunMerge IdPlan::merge_of(std::span<const Generation> generations) {
    RunMerge merge;
    for (const auto& generation : generations) {
        merge.inputs.insert(merge.inputs.end(), generation.runs.begin(), generation.runs.end());
    }
    merge.output = output_in(generations.back().number);
    return merge;
}

std::optional<RunMerge> IdPlan::next_merge() {
    if (generations_.empty()) return std::nullopt;
    const std::span all(generations_);
    const auto closed = all.first(all.size() - 1);
    for (std::size_t i = 0; i < closed.size(); ++i) {
        if (closed[i].runs.size() > 1) return merge_of(closed.subspan(i, 1));
    }
    if (closed.size() > kGenerations) {
        // The pair that makes forgetting least coarse: small, and of a short time.
        const auto cost = [&](std::size_t i) {
            const auto& next = closed[i + 1];
            const auto time = std::max<std::int64_t>(0, next.newest_ms - closed[i].oldest_ms);
            return static_cast<double>(closed[i].ids + next.ids) / static_cast<double>(ids_max_) +
                   static_cast<double>(time) / static_cast<double>(window_ms_);
        };
        std::size_t best = 0;
        for (std::size_t i = 1; i + 1 < closed.size(); ++i) {
            if (cost(i) < cost(best)) best = i;
        }
        return merge_of(closed.subspan(best, 2));
    }
    if (all.back().runs.size() >= kOpenRunsMax) return merge_of(all.last(1));
    return std::nullopt;
}

std::optional<std::int64_t> IdPlan::oldest_ms() const noexcept {
    if (generations_.empty()) return std::nullopt;
    return generations_.front().oldest_ms;
}

}  // namespace opsrelay::spool
