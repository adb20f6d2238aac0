// Bytes from the disk: whatever they are, they are refused or read, and what is read is written
// back the same. Checksums would keep nearly all inputs out, so those of half of them are mended.
#define XXH_INLINE_ALL
#include <lz4.h>
#include <xxhash.h>

#include <sstream>
#include <string>
#include <vector>

#include "core/assert.h"
#include "fuzz/fuzz.h"
#include "spool/byte_order.h"
#include "spool/dead_letter.h"
#include "spool/id_entry.h"
#include "spool/id_run.h"
#include "spool/keys.h"
#include "spool/options.h"
#include "spool/segment.h"
#include "spool/segment_scan.h"
#include "spool/wal_reader.h"

namespace opsrelay::fuzz {

namespace {

using namespace opsrelay::spool;

constexpr std::size_t kChecksumAt = 32;

void put(std::string& bytes, std::size_t at, std::uint64_t value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i));
}

// A header that names what is behind it, with its checksum.
std::string mended_segment(std::string_view input) {
    std::string bytes(input);
    if (bytes.size() < kSegmentHeaderBytes) return bytes;
    put(bytes, 0, kSegmentMagic, 4);
    bytes[4] = static_cast<char>(kSegmentVersion);
    bytes[5] = static_cast<char>(bytes[5] & 1);
    const auto outline = read_segment_outline(bytes);
    if (!outline) return bytes;
    const auto stored = std::string_view(bytes).substr(kSegmentHeaderBytes);
    std::string raw(outline->raw_len, '\0');
    if (outline->codec == Codec::none) {
        raw.assign(stored);
        put(bytes, 20, raw.size(), 4);
    } else if (LZ4_decompress_safe(stored.data(), raw.data(), static_cast<int>(stored.size()),
                                   static_cast<int>(raw.size())) != static_cast<int>(raw.size())) {
        return bytes;
    }
    const auto seed = XXH3_64bits(bytes.data(), kChecksumAt);
    put(bytes, kChecksumAt, XXH3_64bits_withSeed(raw.data(), raw.size(), seed), 8);
    return bytes;
}

void segment(std::string_view bytes) {
    const auto outline = read_segment_outline(bytes);
    const auto stored = decode_segment(bytes, outline ? outline->first_seq : 1);
    if (!stored) {
        OPSRELAY_ASSERT(stored.error().code == Errc::spool_corrupt);
        return;
    }
    OPSRELAY_ASSERT(outline.has_value());
    OPSRELAY_ASSERT(stored->payload.size() == outline->raw_len);
    Segment copy;
    copy.payload = stored->payload;
    copy.count = outline->count;
    copy.received_unix_ms = stored->received_unix_ms;
    std::string scratch;
    const std::string written(encode_segment(copy, stored->first_seq, scratch));
    const auto again = decode_segment(written, stored->first_seq);
    OPSRELAY_ASSERT(again.has_value());
    OPSRELAY_ASSERT(again->payload == stored->payload);
    OPSRELAY_ASSERT(again->offsets == stored->offsets);
    OPSRELAY_ASSERT(again->received_unix_ms == stored->received_unix_ms);
    const auto batch = to_batch(*stored, kDefaultLane, stored->first_seq);
    OPSRELAY_ASSERT(batch.offsets == stored->offsets);
}

void scan(std::string_view bytes) {
    std::size_t end = 0;
    scan_segments(bytes, [&](FoundSegment& found) {
        OPSRELAY_ASSERT(found.at >= end);
        end = found.at + found.value.size();
        OPSRELAY_ASSERT(end <= bytes.size());
        OPSRELAY_ASSERT(decode_segment(found.value, found.segment.first_seq).has_value());
        return true;
    });
}

void dead_letter(std::string_view bytes) {
    const auto letter = decode_dead_letter(bytes);
    if (!letter) return;
    const auto again = decode_dead_letter(encode_dead_letter(*letter));
    OPSRELAY_ASSERT(again.has_value());
    OPSRELAY_ASSERT(again->reason == letter->reason.substr(0, again->reason.size()));
    OPSRELAY_ASSERT(again->payload == letter->payload);
    OPSRELAY_ASSERT(again->hash == letter->hash);
    OPSRELAY_ASSERT(again->unix_ms == letter->unix_ms);
}

void keys(std::string_view bytes) {
    if (const auto cursor = decode_cursor(bytes)) {
        OPSRELAY_ASSERT(decode_cursor(encode_cursor(*cursor)) == cursor);
    }
    if (const auto number = parse_seq_key(bytes)) {
        const auto key = seq_key(*number);
        OPSRELAY_ASSERT(std::string_view(key.data(), key.size()) == bytes);
    }
    if (const auto key = parse_dead_key(bytes)) {
        const auto written = dead_key(*key);
        OPSRELAY_ASSERT(std::string_view(written.data(), written.size()) == bytes);
    }
    if (const auto lane = parse_segment_family(bytes)) {
        OPSRELAY_ASSERT(segment_family(*lane) == bytes);
    }
    if (const auto name = parse_run_key(bytes)) {
        const auto written = run_key(*name, parse_run_page(bytes).value());
        OPSRELAY_ASSERT(std::string_view(written.data(), written.size()) == bytes);
    }
    if (const auto info = decode_descriptor({1, 2}, bytes)) {
        OPSRELAY_ASSERT(decode_descriptor({1, 2}, encode_descriptor(*info)) == info);
    }
    for (std::size_t i = 0; i < ids_in_page(bytes); ++i) static_cast<void>(id_at(bytes, i));
    static_cast<void>(page_contains(bytes, {1, 2}));
    std::size_t ids = 0;
    visit_ids(bytes, [&ids](const IdHash&, std::int64_t) { ++ids; });
    OPSRELAY_ASSERT(ids * 16 <= bytes.size());
}

// Each fragment's checksum as it should be, as far as the lengths lead.
std::string mended_log(std::string_view input) {
    std::string bytes(input);
    for (std::size_t at = 0; at + kWalHeaderBytes <= bytes.size();) {
        const auto length =
            static_cast<std::size_t>(static_cast<unsigned char>(bytes[at + 4])) +
            (static_cast<std::size_t>(static_cast<unsigned char>(bytes[at + 5])) << 8U);
        const auto left = bytes.size() - at - kWalHeaderBytes;
        if (length > left) break;
        const auto payload = std::string_view(bytes).substr(at + kWalHeaderBytes, length);
        put(bytes, at, wal_checksum(bytes[at + 6], payload), 4);
        at += kWalHeaderBytes + length;
    }
    return bytes;
}

void log(const std::string& bytes) {
    std::istringstream stream(bytes);
    WalReader reader(stream);
    WalRecord record;
    std::size_t records = 0;
    std::uint64_t total = 0;
    while (reader.next(record)) {
        total += record.bytes.size();
        OPSRELAY_ASSERT(++records <= bytes.size() / kWalHeaderBytes + 1);
    }
    OPSRELAY_ASSERT(total <= bytes.size());
    OPSRELAY_ASSERT(reader.damaged_bytes() + reader.torn_bytes() <= bytes.size());
}

}  // namespace

void one_input(std::string_view input) {
    const auto [choice, bytes] = choose(input, 8);
    switch (choice) {
        case 0: return segment(bytes);
        case 1: return segment(mended_segment(bytes));
        case 2: return scan(bytes);
        case 3: return scan("prefix" + mended_segment(bytes) + "suffix");
        case 4: return dead_letter(bytes);
        case 5: return keys(bytes);
        case 6: return log(std::string(bytes));
        default: return log(mended_log(bytes));
    }
}

}  // namespace opsrelay::fuzz
