// Pure: the keys of every column family, and the small values of the default one. README.md has the
// grammar.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/event.h"
#include "spool/options.h"
#include "spool/store.h"

namespace opsrelay::spool {

/// Version of everything this folder writes. A newer one is refused; every older one since
/// kOldestFormat is read, and becomes this one when the spool is opened for writing.
inline constexpr std::uint32_t kFormatVersion = 2;
inline constexpr std::uint32_t kOldestFormat = 1;
/// Lanes that a spool may ever have, those included that are not configured any more.
inline constexpr std::size_t kLaneNumbersMax = 64;
static_assert(kLaneNumbersMax >= kLanesMax);

inline constexpr std::string_view kDefaultFamily = "default";  // RocksDB's own name for it
inline constexpr std::string_view kIdLogFamily = "idlog";
inline constexpr std::string_view kIdsFamily = "ids";
inline constexpr std::string_view kDeadFamily = "dead";
inline constexpr std::string_view kDeferredFamily = "deferred";  // since format 2

inline constexpr std::string_view kFormatKey = "format";  // u32
inline constexpr std::string_view kSaltKey = "salt";      // u64
inline constexpr std::string_view kSealedKey = "sealed";  // u64: first id log entry needed
inline constexpr std::string_view kIdEndKey = "id_end";   // u64: the next id log entry's number
inline constexpr std::string_view kDeadUpstreamKey = "dead_upstream";  // u64: how many there are
inline constexpr std::string_view kDeadBytesKey = "dead_bytes";        // u64: and their bytes
inline constexpr std::string_view kDeadNextKey = "dead_next";  // u64: the next admission letter's

using SeqKey = std::array<char, 8>;
using DeadKeyBytes = std::array<char, 11>;
using DeferredKey = std::array<char, 10>;

/// Key of a segment (its first record's number) or of an id log entry.
[[nodiscard]] SeqKey seq_key(std::uint64_t number) noexcept;
/// nullopt: not such a key.
[[nodiscard]] std::optional<std::uint64_t> parse_seq_key(std::string_view key) noexcept;

[[nodiscard]] DeadKeyBytes dead_key(const DeadKey& key) noexcept;
[[nodiscard]] std::optional<DeadKey> parse_dead_key(std::string_view key) noexcept;

[[nodiscard]] DeferredKey deferred_key(LaneId lane, Seq seq) noexcept;
/// nullopt: not such a key.
[[nodiscard]] std::optional<std::pair<LaneId, Seq>> parse_deferred_key(
    std::string_view key) noexcept;

/// Name of a lane's segment family: "seg_0".
[[nodiscard]] std::string segment_family(LaneId lane);
[[nodiscard]] std::optional<LaneId> parse_segment_family(std::string_view name) noexcept;

/// Keys of the default family that exist once per lane: "lane/0", "ack/0", "end/0", "paused/0",
/// "memo/0".
[[nodiscard]] std::string lane_name_key(LaneId lane);
[[nodiscard]] std::string ack_key(LaneId lane);
[[nodiscard]] std::string end_key(LaneId lane);
[[nodiscard]] std::string paused_key(LaneId lane);
[[nodiscard]] std::string memo_key(LaneId lane);
/// Values of paused_key; without one a lane is not paused.
inline constexpr std::string_view kPaused = "1";
inline constexpr std::string_view kNotPaused = "0";

/// Value of ack_key: `next` is the first record without an outcome; no segment below `segment`
/// holds it or a later one. `ahead`: later records that have theirs, ascending; stored as a bitmap,
/// so it takes a byte for every eight records up to the last of them.
struct Cursor {
    Seq segment = 1;
    Seq next = 1;
    std::vector<Seq> ahead;
    bool operator==(const Cursor&) const = default;
};
/// Bound of the bitmap when it is read back: far beyond what can be in flight or lost at once.
inline constexpr std::size_t kAheadBytesMax = 1U << 20U;
[[nodiscard]] std::string encode_cursor(const Cursor& cursor);
[[nodiscard]] std::optional<Cursor> decode_cursor(std::string_view value);

[[nodiscard]] std::string encode_u64(std::uint64_t value);
[[nodiscard]] std::optional<std::uint64_t> decode_u64(std::string_view value) noexcept;
[[nodiscard]] std::string encode_u32(std::uint32_t value);
[[nodiscard]] std::optional<std::uint32_t> decode_u32(std::string_view value) noexcept;

}  // namespace opsrelay::spool
