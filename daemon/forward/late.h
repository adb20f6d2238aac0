// Events that are delivered after the UTC day or month they belong to. Budgets are those of a UTC
// day and of a calendar month, plans those of a month: an upstream that goes by arrival counts such
// an event in the wrong one. Used by the pump; decides nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/enum_table.h"
#include "observe/metrics.h"

namespace opsrelay::forward {

/// Label values of `boundary` in opsrelay_events_late_total. Who is late for the month is late for
/// the day too.
enum class Boundary : std::uint8_t { day, month };
inline constexpr std::array<EnumName<Boundary>, 2> kBoundaries{{
    {Boundary::day, "day"},
    {Boundary::month, "month"},
}};
static_assert(dense(kBoundaries));

/// Which ends lie between two moments.
struct Lateness {
    bool day = false;
    bool month = false;
};

/// Of an event received at `received_unix_ms` and delivered at `delivered_unix_ms`, UTC. Not late
/// when the clock stepped back meanwhile.
[[nodiscard]] Lateness lateness(std::int64_t received_unix_ms,
                                std::int64_t delivered_unix_ms) noexcept;

/// Of one process.
struct LateCounts {
    std::uint64_t day = 0;
    std::uint64_t month = 0;
};

/// Counts the late events of one lane, and adds them to the registry's, which are of all lanes. The
/// time of an event is its segment's, as in createdAt: at most a second early.
class LateCounter {
public:
    explicit LateCounter(observe::Registry& registry);
    /// Thread: forward.
    void note_delivered(std::int64_t received_unix_ms, std::int64_t delivered_unix_ms) noexcept;
    /// Any thread.
    [[nodiscard]] LateCounts counts() const noexcept;

private:
    observe::Counter& all_day_;
    observe::Counter& all_month_;
    std::atomic<std::uint64_t> day_{0};
    std::atomic<std::uint64_t> month_{0};
};

}  // namespace opsrelay::forward
