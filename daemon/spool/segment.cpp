#include "spool/segment.h"

#include <fmt/format.h>
#include <lz4.h>
#include <xxhash.h>

#include <algorithm>

#include "core/assert.h"
#include "spool/byte_order.h"
#include "spool/options.h"

namespace opsrelay::spool {
namespace {

// Offsets of the header's fields.
constexpr std::size_t kMagicAt = 0;
constexpr std::size_t kVersionAt = 4;
constexpr std::size_t kCodecAt = 5;
constexpr std::size_t kFlagsAt = 6;
constexpr std::size_t kFirstSeqAt = 8;
constexpr std::size_t kCountAt = 16;
constexpr std::size_t kRawLenAt = 20;
constexpr std::size_t kReceivedAt = 24;
constexpr std::size_t kChecksumAt = 32;

struct Header {
    Codec codec = Codec::none;
    std::uint32_t count = 0;
    std::uint32_t raw_len = 0;
    std::int64_t received_unix_ms = 0;
    std::uint64_t checksum = 0;
};

// The header is the seed, so that a flipped bit in either is found.
std::uint64_t checksum_of(const char* header, std::string_view payload) noexcept {
    const auto seed = XXH3_64bits(header, kChecksumAt);
    return XXH3_64bits_withSeed(payload.data(), payload.size(), seed);
}

Error damaged(Seq first_seq, std::string_view what, std::uint64_t found, std::uint64_t wanted) {
    return {Errc::spool_corrupt,
            fmt::format("segment {}: {} is {}, must be {}", first_seq, what, found, wanted)};
}

Result<Header> read_header(std::string_view value, Seq first_seq) {
    if (value.size() < kSegmentHeaderBytes) {
        return damaged(first_seq, "length", value.size(), kSegmentHeaderBytes);
    }
    const char* const at = value.data();
    const auto magic = load_le<std::uint32_t>(at + kMagicAt);
    if (magic != kSegmentMagic) return damaged(first_seq, "magic", magic, kSegmentMagic);
    const auto version = load_le<std::uint8_t>(at + kVersionAt);
    if (version != kSegmentVersion) return damaged(first_seq, "version", version, kSegmentVersion);
    const auto codec = load_le<std::uint8_t>(at + kCodecAt);
    if (codec > static_cast<std::uint8_t>(Codec::lz4)) {
        return damaged(first_seq, "codec", codec, static_cast<std::uint8_t>(Codec::lz4));
    }
    const auto flags = load_le<std::uint16_t>(at + kFlagsAt);
    if (flags != 0) return damaged(first_seq, "flags", flags, 0);
    const auto stored_seq = load_le<std::uint64_t>(at + kFirstSeqAt);
    if (stored_seq != first_seq) return damaged(first_seq, "first_seq", stored_seq, first_seq);
    Header header;
    header.codec = static_cast<Codec>(codec);
    header.count = load_le<std::uint32_t>(at + kCountAt);
    header.raw_len = load_le<std::uint32_t>(at + kRawLenAt);
    header.received_unix_ms = static_cast<std::int64_t>(load_le<std::uint64_t>(at + kReceivedAt));
    header.checksum = load_le<std::uint64_t>(at + kChecksumAt);
    if (header.count == 0 || header.count > kSegmentEventsMax) {
        return damaged(first_seq, "count", header.count, kSegmentEventsMax);
    }
    if (header.raw_len == 0 || header.raw_len > kSegmentRawBytesMax.count) {
        return damaged(first_seq, "raw length", header.raw_len, kSegmentRawBytesMax.count);
    }
    return header;
}

Result<std::string> read_payload(std::string_view body, const Header& header, Seq first_seq) {
    if (header.codec == Codec::none) {
        if (body.size() != header.raw_len) {
            return damaged(first_seq, "stored length", body.size(), header.raw_len);
        }
        return std::string(body);
    }
    // Compressed only when that is smaller, so a longer body is damage; it also keeps the int below
    // from overflowing.
    if (body.size() >= header.raw_len) {
        return damaged(first_seq, "compressed length", body.size(), header.raw_len - 1);
    }
    std::string payload(header.raw_len, '\0');
    const auto got = LZ4_decompress_safe(body.data(), payload.data(), static_cast<int>(body.size()),
                                         static_cast<int>(payload.size()));
    if (got < 0) return Error{Errc::spool_corrupt, fmt::format("segment {}: not LZ4", first_seq)};
    if (static_cast<std::uint32_t>(got) != header.raw_len) {
        return damaged(first_seq, "decompressed length", static_cast<std::uint32_t>(got),
                       header.raw_len);
    }
    return payload;
}

std::optional<std::vector<std::uint32_t>> find_records(std::string_view payload,
                                                       std::uint32_t count) {
    if (payload.back() != '\n') return std::nullopt;
    std::vector<std::uint32_t> offsets;
    offsets.reserve(count + 1U);
    offsets.push_back(0);
    for (std::size_t at = 0; at < payload.size() && offsets.size() <= count;) {
        at = payload.find('\n', at) + 1;
        offsets.push_back(static_cast<std::uint32_t>(at));
    }
    if (offsets.size() != count + 1U || offsets.back() != payload.size()) return std::nullopt;
    return offsets;
}

}  // namespace

std::string_view encode_segment(const Segment& segment, Seq first_seq, std::string& scratch) {
    const auto& payload = segment.payload;
    OPSRELAY_ASSERT(segment.count > 0);
    OPSRELAY_ASSERT(segment.count <= kSegmentEventsMax);
    OPSRELAY_ASSERT(!payload.empty());
    OPSRELAY_ASSERT(payload.size() <= kSegmentRawBytesMax.count);
    OPSRELAY_ASSERT(payload.back() == '\n');
    const auto raw_len = static_cast<int>(payload.size());
    const auto room = kSegmentHeaderBytes + payload.size();
    if (scratch.size() < room) scratch.resize(room);
    char* const at = scratch.data();
    char* const body = at + kSegmentHeaderBytes;
    // A destination one byte short of the payload makes LZ4 give up when it would not be smaller.
    const int packed = LZ4_compress_default(payload.data(), body, raw_len, raw_len - 1);
    const auto codec = packed > 0 ? Codec::lz4 : Codec::none;
    const auto length = packed > 0 ? static_cast<std::size_t>(packed) : payload.size();
    if (codec == Codec::none) std::copy(payload.begin(), payload.end(), body);
    store_le(at + kMagicAt, kSegmentMagic);
    store_le(at + kVersionAt, kSegmentVersion);
    store_le(at + kCodecAt, static_cast<std::uint8_t>(codec));
    store_le(at + kFlagsAt, std::uint16_t{0});
    store_le(at + kFirstSeqAt, first_seq);
    store_le(at + kCountAt, segment.count);
    store_le(at + kRawLenAt, static_cast<std::uint32_t>(raw_len));
    store_le(at + kReceivedAt, static_cast<std::uint64_t>(segment.received_unix_ms));
    store_le(at + kChecksumAt, static_cast<std::uint64_t>(checksum_of(at, payload)));
    return {at, kSegmentHeaderBytes + length};
}

Result<StoredSegment> decode_segment(std::string_view value, Seq expected_first_seq) {
    const auto header = read_header(value, expected_first_seq);
    if (!header) return header.error();
    auto payload = read_payload(value.substr(kSegmentHeaderBytes), *header, expected_first_seq);
    if (!payload) return payload.error();
    const auto checksum = checksum_of(value.data(), *payload);
    if (checksum != header->checksum) {
        return damaged(expected_first_seq, "checksum", checksum, header->checksum);
    }
    auto offsets = find_records(*payload, header->count);
    if (!offsets) {
        return Error{Errc::spool_corrupt, fmt::format("segment {}: does not hold {} records",
                                                      expected_first_seq, header->count)};
    }
    StoredSegment segment;
    segment.first_seq = expected_first_seq;
    segment.received_unix_ms = header->received_unix_ms;
    segment.payload = std::move(*payload);
    segment.offsets = std::move(*offsets);
    return segment;
}

std::optional<SegmentOutline> read_segment_outline(std::string_view value) {
    if (value.size() < kSegmentHeaderBytes) return std::nullopt;
    const Seq first_seq = load_le<std::uint64_t>(value.data() + kFirstSeqAt);
    const auto header = read_header(value, first_seq);
    if (!header) return std::nullopt;
    return SegmentOutline{first_seq, header->codec, header->count, header->raw_len};
}

RecordBatch to_batch(StoredSegment segment, LaneId lane, Seq from) {
    OPSRELAY_ASSERT(from >= segment.first_seq);
    OPSRELAY_ASSERT(from < segment.end_seq());
    const auto skip = static_cast<std::ptrdiff_t>(from - segment.first_seq);
    RecordBatch batch;
    batch.lane = lane;
    batch.first_seq = from;
    batch.received_unix_ms = segment.received_unix_ms;
    batch.payload = std::move(segment.payload);
    batch.offsets = std::move(segment.offsets);
    if (skip == 0) return batch;
    const auto cut = batch.offsets[static_cast<std::size_t>(skip)];
    batch.payload.erase(0, cut);
    batch.offsets.erase(batch.offsets.begin(), batch.offsets.begin() + skip);
    for (auto& offset : batch.offsets) offset -= cut;
    return batch;
}

}  // namespace opsrelay::spool
