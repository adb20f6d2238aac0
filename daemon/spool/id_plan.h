// Pure: which ids are kept for how long, decided a generation at a time; and which runs are merged
// so that few filters have to be asked.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "spool/id_run.h"
#include "spool/options.h"

namespace opsrelay::spool {

/// Several runs that become one.
struct RunMerge {
    std::vector<RunName> inputs;  // at least two, ascending
    RunName output;
};

/// A generation is a twelfth of the window or of ids_max, whichever ends first. The newest one
/// takes new runs; an older one is closed, merged into one run, and forgotten as a whole: when its
/// newest id is older than the window, or when ids_max newer ids are remembered. So an id is
/// remembered for at least the window, or while it is among the newest ids_max; closed generations
/// that are merged with a neighbour (more than twelve exist only after irregular ends) keep theirs
/// somewhat longer. Times are those of the id clock. Thread: storage.
class IdPlan {
public:
    IdPlan(milliseconds window, std::uint64_t ids_max);

    /// Takes over what is stored, in any order.
    void set_runs(std::span<const IdRun> runs);

    /// The name of the next run, of ids the oldest of which came at `oldest_ms`. Each call gives
    /// another one: a run that failed may be on disk all the same.
    [[nodiscard]] RunName next_run(std::int64_t oldest_ms);
    /// When the open generation ends, should it not fill before; nullopt: none is open.
    [[nodiscard]] std::optional<std::int64_t> generation_end_ms() const noexcept;
    /// The runs to forget now, while `unsealed` ids are not in a run yet.
    [[nodiscard]] std::vector<RunName> expired(std::int64_t now_ms, std::uint64_t unsealed) const;
    /// The next merge that is worth it.
    [[nodiscard]] std::optional<RunMerge> next_merge();

    /// In all runs.
    [[nodiscard]] std::uint64_t ids() const noexcept { return ids_; }
    /// Of the oldest id that is certainly remembered; nullopt: there is no run.
    [[nodiscard]] std::optional<std::int64_t> oldest_ms() const noexcept;

    static constexpr std::size_t kGenerations = 12;
    /// The open generation has at most this many runs before they are merged into one. One of ten
    /// million ids in seals of 32,768 closes before that, and is written twice, not three times.
    static constexpr std::size_t kOpenRunsMax = 28;

private:
    struct Generation {
        std::uint32_t number = 0;
        std::vector<RunName> runs;
        std::uint64_t ids = 0;
        std::int64_t oldest_ms = 0;
        std::int64_t newest_ms = 0;
    };
    [[nodiscard]] RunName output_in(std::uint32_t generation);
    [[nodiscard]] RunMerge merge_of(std::span<const Generation> generations);

    const std::int64_t window_ms_;
    const std::int64_t span_ms_;  // of a generation
    const std::uint64_t ids_max_;
    const std::uint64_t generation_ids_;
    std::vector<Generation> generations_;  // ascending; the last one is open
    std::uint64_t ids_ = 0;
    std::uint32_t last_generation_ = 0;  // numbers are not used again while the process lives
    std::uint32_t last_run_ = 0;
};

}  // namespace opsrelay::spool
