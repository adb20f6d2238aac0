// Pure: a segment's bytes. A 40-byte little-endian header, then the events, each followed by '\n',
// LZ4-compressed when that makes them smaller. README.md has the grammar.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "spool/store.h"

namespace opsrelay::spool {

inline constexpr std::uint32_t kSegmentMagic = 0x5352504fU;  // "OPRS" as it lies on disk
inline constexpr std::uint8_t kSegmentVersion = 1;
inline constexpr std::size_t kSegmentHeaderBytes = 40;

enum class Codec : std::uint8_t { none = 0, lz4 = 1 };

/// A segment read back and checked.
struct StoredSegment {
    Seq first_seq = 0;
    std::int64_t received_unix_ms = 0;
    std::string payload;                 // events, each followed by '\n'
    std::vector<std::uint32_t> offsets;  // as in RecordBatch

    [[nodiscard]] Seq end_seq() const noexcept { return first_seq + offsets.size() - 1; }
};

/// The value stored for `segment` when its first record has number `first_seq`. The segment is
/// within the limits of spool/options.h and its payload ends with '\n' (asserted). The value lies
/// in `scratch`, which only grows, up to the largest segment, so that it can serve again.
[[nodiscard]] std::string_view encode_segment(const Segment& segment, Seq first_seq,
                                              std::string& scratch);

/// Undoes encode_segment(). Errors: spool_corrupt, naming what does not fit. Nothing is allocated
/// by a length that was not checked against the limits, whatever the bytes say.
[[nodiscard]] Result<StoredSegment> decode_segment(std::string_view value, Seq expected_first_seq);

/// What a header says of its segment, within the limits; the checksum was not looked at.
struct SegmentOutline {
    Seq first_seq = 0;
    Codec codec = Codec::none;
    std::uint32_t count = 0;
    std::uint32_t raw_len = 0;
};
/// nullopt: `value` does not begin with such a header.
[[nodiscard]] std::optional<SegmentOutline> read_segment_outline(std::string_view value);

/// The records from `from` on, which lies in the segment (asserted).
[[nodiscard]] RecordBatch to_batch(StoredSegment segment, LaneId lane, Seq from);

}  // namespace opsrelay::spool
