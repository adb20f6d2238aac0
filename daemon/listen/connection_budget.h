// How many connections the process serves at a time, whichever listener took them.
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>

namespace opsrelay::listen {

/// Descriptors that connections never take: the spool's files, upstream, admin and the listeners
/// themselves must be able to open theirs while every connection is in use.
inline constexpr std::size_t kDescriptorsKept = 256;
/// Served however few descriptors there are; and what each listener may have however many the
/// others took (but at most an eighth of the limit), so that one that is full does not shut the
/// others out.
inline constexpr std::size_t kConnectionsMin = 16;

/// Of `wanted` connections as many as a process that may have `descriptors_max` descriptors can
/// serve beside kDescriptorsKept. Pure.
[[nodiscard]] std::size_t affordable_connections(std::size_t wanted,
                                                 rlim_t descriptors_max) noexcept;

/// One budget for all listeners. Thread: ingest.
class ConnectionBudget {
public:
    /// Before the first take().
    void set_limit(std::size_t connections_max) noexcept { limit_ = connections_max; }

    /// False: the limit is reached and the listener has its minimum (`own` connections): nothing
    /// was taken.
    [[nodiscard]] bool take(std::size_t own) noexcept {
        const auto guaranteed = std::min(kConnectionsMin, limit_ / 8);
        if (taken_ >= limit_ && own >= guaranteed) return false;
        ++taken_;
        return true;
    }
    void give_back() noexcept { --taken_; }

    [[nodiscard]] std::size_t taken() const noexcept { return taken_; }
    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }

private:
    std::size_t limit_ = 0;
    std::size_t taken_ = 0;
};

}  // namespace opsrelay::listen
