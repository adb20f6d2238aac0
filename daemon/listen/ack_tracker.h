// Which lines of a stream are settled, in line order. Pure; used by one stream session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "core/event.h"

namespace opsrelay::listen {

/// The counts of an ack: of the lines 1..durable+rejected every one is settled.
struct AckCounts {
    std::uint64_t durable = 0;   // accepted events and duplicates of accepted ones
    std::uint64_t rejected = 0;  // dead letters: sending them again does not help
    bool operator==(const AckCounts&) const = default;
};

/// Remembers the lines that wait for their commit, compressed into runs, and counts a line only
/// when every earlier line is settled. Bounded by its user, who stops reading when has_capacity()
/// is false.
class AckTracker {
public:
    /// Bounds of what waits: beyond them the session stops reading.
    static constexpr std::size_t kLinesMax = 65'536;
    static constexpr std::size_t kRunsMax = 4'096;

    /// The next line is durable once `position` is settled; 0: it already is.
    void add_waiting(Position position);
    /// The next line was rejected.
    void add_rejected();
    /// Every position up to `durable` is durable. True when lines that waited were counted.
    bool settle(Position durable);
    /// Exactly `position` is durable. True when lines that waited were counted.
    bool confirm(Position position);

    /// The position that the first unsettled line waits for.
    [[nodiscard]] std::optional<Position> front() const noexcept;
    [[nodiscard]] const AckCounts& counts() const noexcept { return counts_; }
    [[nodiscard]] std::size_t waiting_lines() const noexcept { return lines_; }
    [[nodiscard]] std::size_t waiting_runs() const noexcept { return runs_.size(); }
    [[nodiscard]] bool has_capacity() const noexcept {
        return lines_ < kLinesMax && runs_.size() < kRunsMax;
    }

private:
    enum class Shape : std::uint8_t {
        ascending,  // the lines wait for first, first + 1, ...
        level,      // all of them wait for first
        rejected
    };
    struct Run {
        Shape shape;
        std::uint32_t lines;
        Position first;
    };
    void pop_lines(Run& run, std::uint32_t lines);
    bool drain();

    std::deque<Run> runs_;
    std::size_t lines_ = 0;
    Position durable_ = 0;
    AckCounts counts_;
};

}  // namespace opsrelay::listen
