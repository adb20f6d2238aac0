// Pure: a dead letter's bytes, and which admission dead letters are kept.
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/units.h"
#include "spool/disk_plan.h"
#include "spool/store.h"

namespace opsrelay::spool {

inline constexpr std::uint8_t kDeadLetterVersion = 1;
/// Texts of a dead letter, the event itself excepted, are cut to this length.
inline constexpr std::size_t kDeadTextBytesMax = 4096;

/// At most this many admission dead letters, of this many bytes, are kept; the oldest go first.
/// Dead letters of accepted records are never evicted: a lane that has no room for another one
/// (DeadUsage::has_room()) keeps the record and stops.
struct DeadLimits {
    std::size_t admission_letters = 10'000;
    Bytes admission_bytes{std::numeric_limits<std::uint64_t>::max()};
    std::uint64_t upstream_letters = 100'000;
    Bytes upstream_bytes{std::numeric_limits<std::uint64_t>::max()};
};
/// These, and no more bytes than the plan gives them.
[[nodiscard]] DeadLimits within(DeadLimits limits, const DiskPlan& plan) noexcept;

/// The value stored for a dead letter.
[[nodiscard]] std::string encode_dead_letter(const DeadLetter& letter);
/// What it takes of the room: key and value.
[[nodiscard]] Bytes stored_bytes(const DeadLetter& letter) noexcept;
/// Undoes encode_dead_letter(). Errors: spool_corrupt.
[[nodiscard]] Result<DeadLetter> decode_dead_letter(std::string_view value);

/// The admission dead letters in the spool, oldest first: 16 bytes of memory each. Decides what a
/// new one pushes out. Thread: storage.
class AdmissionLetters {
public:
    struct Entry {
        std::uint64_t number = 0;
        std::uint32_t bytes = 0;  // key and value
        LaneId lane = kDefaultLane;
    };

    AdmissionLetters() : AdmissionLetters(DeadLimits{}) {}
    explicit AdmissionLetters(DeadLimits limits) : limits_(limits) {}

    /// The next letter pushes out what is over them.
    void set_limits(DeadLimits limits) noexcept { limits_ = limits; }
    /// Takes over what is stored already, in any order. Numbers below `next` were given out.
    void adopt(std::vector<Entry> stored, std::uint64_t next);
    /// The number the next letter gets.
    [[nodiscard]] std::uint64_t next_number() const noexcept { return next_number_; }
    [[nodiscard]] std::size_t size() const noexcept { return kept_.size(); }
    [[nodiscard]] Bytes bytes() const noexcept { return bytes_; }

    /// How many of the oldest, counted through the kept ones and then `fresh`, must go so that the
    /// rest is within the limits.
    [[nodiscard]] std::size_t evictions(std::span<const Entry> fresh) const noexcept;
    [[nodiscard]] const Entry& oldest(std::size_t i) const { return kept_.at(i); }
    /// `fresh` was written and `evicted` of the oldest (as evictions() counted them) were deleted.
    void replace(std::span<const Entry> fresh, std::size_t evicted);
    /// These were deleted. Unknown numbers are skipped.
    void forget(const std::set<std::uint64_t>& numbers);

private:
    DeadLimits limits_;
    std::deque<Entry> kept_;
    Bytes bytes_;
    std::uint64_t next_number_ = 1;
};

}  // namespace opsrelay::spool
