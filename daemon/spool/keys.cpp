#include "spool/keys.h"

#include <fmt/format.h>

#include <charconv>

#include "spool/byte_order.h"

namespace opsrelay::spool {
namespace {

constexpr std::string_view kSegmentPrefix = "seg_";

std::uint16_t number(LaneId lane) noexcept { return static_cast<std::uint16_t>(lane); }

}  // namespace

SeqKey seq_key(std::uint64_t number) noexcept {
    SeqKey key;
    store_be(key.data(), number);
    return key;
}

std::optional<std::uint64_t> parse_seq_key(std::string_view key) noexcept {
    return decode_u64(key);
}

DeadKeyBytes dead_key(const DeadKey& key) noexcept {
    DeadKeyBytes bytes;
    store_be(bytes.data(), static_cast<std::uint8_t>(key.kind));
    store_be(bytes.data() + 1, number(key.lane));
    store_be(bytes.data() + 3, key.number);
    return bytes;
}

std::optional<DeadKey> parse_dead_key(std::string_view key) noexcept {
    if (key.size() != std::tuple_size_v<DeadKeyBytes>) return std::nullopt;
    const auto kind = load_be<std::uint8_t>(key.data());
    if (kind > static_cast<std::uint8_t>(DeadKind::upstream)) return std::nullopt;
    return DeadKey{static_cast<DeadKind>(kind), LaneId{load_be<std::uint16_t>(key.data() + 1)},
                   load_be<std::uint64_t>(key.data() + 3)};
}

DeferredKey deferred_key(LaneId lane, Seq seq) noexcept {
    DeferredKey bytes;
    store_be(bytes.data(), number(lane));
    store_be(bytes.data() + 2, seq);
    return bytes;
}

std::optional<std::pair<LaneId, Seq>> parse_deferred_key(std::string_view key) noexcept {
    if (key.size() != std::tuple_size_v<DeferredKey>) return std::nullopt;
    return std::pair{LaneId{load_be<std::uint16_t>(key.data())},
                     load_be<std::uint64_t>(key.data() + 2)};
}

std::string segment_family(LaneId lane) {
    return fmt::format("{}{}", kSegmentPrefix, number(lane));
}

std::optional<LaneId> parse_segment_family(std::string_view name) noexcept {
    if (!name.starts_with(kSegmentPrefix)) return std::nullopt;
    const auto digits = name.substr(kSegmentPrefix.size());
    std::uint16_t lane = 0;
    const auto* const end = digits.data() + digits.size();
    const auto [stop, ec] = std::from_chars(digits.data(), end, lane);
    if (ec != std::errc{} || stop != end) return std::nullopt;
    if (digits.size() > 1 && digits.front() == '0') return std::nullopt;  // one name a lane
    return LaneId{lane};
}

std::string lane_name_key(LaneId lane) { return fmt::format("lane/{}", number(lane)); }
std::string ack_key(LaneId lane) { return fmt::format("ack/{}", number(lane)); }
std::string end_key(LaneId lane) { return fmt::format("end/{}", number(lane)); }
std::string paused_key(LaneId lane) { return fmt::format("paused/{}", number(lane)); }
std::string memo_key(LaneId lane) { return fmt::format("memo/{}", number(lane)); }

std::string encode_cursor(const Cursor& cursor) {
    std::string value(16, '\0');
    store_be(value.data(), cursor.segment);
    store_be(value.data() + 8, cursor.next);
    if (cursor.ahead.empty()) return value;
    value.resize(16 + (cursor.ahead.back() - cursor.next) / 8 + 1);
    for (const auto seq : cursor.ahead) {
        const auto bit = seq - cursor.next;
        auto& byte = value[16 + bit / 8];
        byte = static_cast<char>(static_cast<unsigned char>(byte) | 1U << bit % 8);
    }
    return value;
}

std::optional<Cursor> decode_cursor(std::string_view value) {
    if (value.size() < 16 || value.size() > 16 + kAheadBytesMax) return std::nullopt;
    Cursor cursor{
        load_be<std::uint64_t>(value.data()), load_be<std::uint64_t>(value.data() + 8), {}};
    if (cursor.segment == 0 || cursor.segment > cursor.next) return std::nullopt;
    const auto bitmap = value.substr(16);
    for (std::size_t bit = 0; bit < bitmap.size() * 8; ++bit) {
        const auto byte = static_cast<unsigned char>(bitmap[bit / 8]);
        if ((byte >> bit % 8 & 1U) != 0) cursor.ahead.push_back(cursor.next + bit);
    }
    return cursor;
}

std::string encode_u64(std::uint64_t value) {
    std::string bytes(8, '\0');
    store_be(bytes.data(), value);
    return bytes;
}

std::optional<std::uint64_t> decode_u64(std::string_view value) noexcept {
    if (value.size() != 8) return std::nullopt;
    return load_be<std::uint64_t>(value.data());
}

std::string encode_u32(std::uint32_t value) {
    std::string bytes(4, '\0');
    store_be(bytes.data(), value);
    return bytes;
}

std::optional<std::uint32_t> decode_u32(std::string_view value) noexcept {
    if (value.size() != 4) return std::nullopt;
    return load_be<std::uint32_t>(value.data());
}

}  // namespace opsrelay::spool
