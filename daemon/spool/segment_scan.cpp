#include "spool/segment_scan.h"

#include <array>
#include <optional>
#include <vector>

#include "spool/byte_order.h"
#include "spool/options.h"

namespace opsrelay::spool {
namespace {

constexpr std::string_view kMagicText = "OPRS";
constexpr std::size_t kLengthBytesMax = 3;  // of a varint up to the longest segment
// RocksDB's key in a table: ours and eight bytes of its own.
constexpr std::size_t kTableKeyBytes = 16;

std::uint8_t byte_at(std::string_view bytes, std::size_t at) noexcept {
    return static_cast<std::uint8_t>(bytes[at]);
}

// The varint of exactly `size` bytes that ends before `end`.
std::optional<std::size_t> length_before(std::string_view bytes, std::size_t end,
                                         std::size_t size) noexcept {
    if (end < size) return std::nullopt;
    std::size_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const auto byte = byte_at(bytes, end - size + i);
        if ((byte < 0x80) != (i + 1 == size)) return std::nullopt;
        value |= static_cast<std::size_t>(byte & 0x7fU) << 7 * i;
    }
    return value;
}

// What the length may be: in a log it stands right before the value; in a block of a table before
// the part of the key that differs from the previous key's, behind the sizes of both parts.
std::vector<std::size_t> lengths_of(std::string_view bytes, std::size_t at) {
    std::vector<std::size_t> lengths;
    for (std::size_t size = 1; size <= kLengthBytesMax; ++size) {
        if (const auto length = length_before(bytes, at, size)) lengths.push_back(*length);
        for (std::size_t own = 1; own <= kTableKeyBytes; ++own) {
            if (at < own + size + 2) break;
            const auto end = at - own;
            if (byte_at(bytes, end - size - 1) != own ||
                byte_at(bytes, end - size - 2) != kTableKeyBytes - own) {
                continue;
            }
            if (const auto length = length_before(bytes, end, size)) lengths.push_back(*length);
        }
    }
    return lengths;
}

std::optional<FoundSegment> segment_at(std::string_view bytes, std::size_t at) {
    if (bytes.size() - at < kSegmentHeaderBytes) return std::nullopt;
    const auto header = read_segment_outline(bytes.substr(at));
    if (!header) return std::nullopt;
    auto lengths = lengths_of(bytes, at);
    if (header->codec == Codec::none) lengths = {kSegmentHeaderBytes + header->raw_len};
    for (const auto length : lengths) {
        if (length < kSegmentHeaderBytes || length > bytes.size() - at) continue;
        const auto value = bytes.substr(at, length);
        auto segment = decode_segment(value, header->first_seq);
        if (segment) return FoundSegment{std::move(*segment), value, at};
    }
    return std::nullopt;
}

}  // namespace

void scan_segments(std::string_view bytes, const std::function<bool(FoundSegment&)>& visit) {
    std::size_t at = bytes.find(kMagicText);
    while (at != std::string_view::npos) {
        auto next = at + 1;
        if (auto found = segment_at(bytes, at)) {
            next = at + found->value.size();
            if (!visit(*found)) return;
        }
        at = bytes.find(kMagicText, next);
    }
}

}  // namespace opsrelay::spool
