#include "spool/deferred.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "spool/byte_order.h"
#include "spool/options.h"

namespace opsrelay::spool {
namespace {

constexpr std::uint32_t kMagic = 0x4452504f;  // "OPRD" on disk
constexpr std::string_view kMagicText = "OPRD";
constexpr std::size_t kLengthAt = 36;
constexpr std::size_t kChecksumAt = 40;
constexpr std::size_t kHeaderBytes = 48;

std::uint64_t checksum(std::string_view header, std::string_view payload) noexcept {
    const auto seed = XXH3_64bits(header.data(), kChecksumAt);
    return XXH3_64bits_withSeed(payload.data(), payload.size(), seed);
}

Error damaged(std::string_view what) {
    return {Errc::spool_corrupt, fmt::format("deferred record: {}", what)};
}

}  // namespace

Bytes deferred_bytes(const DeferredRecord& record) noexcept {
    return Bytes{kHeaderBytes + record.payload.size()};
}

std::string encode_deferred(LaneId lane, const DeferredRecord& record) {
    std::string value(kHeaderBytes, '\0');
    char* const at = value.data();
    store_le(at, kMagic);
    store_le(at + 4, kDeferredVersion);
    store_le(at + 6, static_cast<std::uint16_t>(lane));
    store_le(at + 8, record.seq);
    store_le(at + 16, static_cast<std::uint64_t>(record.due_unix_ms));
    store_le(at + 24, static_cast<std::uint64_t>(record.received_unix_ms));
    store_le(at + 32, record.failures);
    store_le(at + kLengthAt, static_cast<std::uint32_t>(record.payload.size()));
    store_le(at + kChecksumAt, checksum(value, record.payload));
    return value + record.payload;
}

Result<StoredDeferred> decode_deferred(std::string_view value) {
    if (value.size() < kHeaderBytes) return damaged("shorter than its header");
    const char* const at = value.data();
    if (load_le<std::uint32_t>(at) != kMagic) return damaged("not one");
    const auto version = load_le<std::uint8_t>(at + 4);
    if (version != kDeferredVersion) return damaged(fmt::format("version {}", version));
    const auto length = load_le<std::uint32_t>(at + kLengthAt);
    if (length != value.size() - kHeaderBytes) {
        return damaged(fmt::format("{} bytes, must be {}", value.size() - kHeaderBytes, length));
    }
    const auto payload = value.substr(kHeaderBytes);
    if (load_le<std::uint64_t>(at + kChecksumAt) != checksum(value, payload)) {
        return damaged("its checksum is wrong");
    }
    StoredDeferred stored;
    stored.lane = LaneId{load_le<std::uint16_t>(at + 6)};
    stored.record.seq = load_le<std::uint64_t>(at + 8);
    stored.record.due_unix_ms = static_cast<std::int64_t>(load_le<std::uint64_t>(at + 16));
    stored.record.received_unix_ms = static_cast<std::int64_t>(load_le<std::uint64_t>(at + 24));
    stored.record.failures = load_le<std::uint32_t>(at + 32);
    stored.record.payload = payload;
    return stored;
}

void scan_deferred(std::string_view bytes,
                   const std::function<void(const StoredDeferred&)>& visit) {
    auto at = bytes.find(kMagicText);
    while (at != std::string_view::npos) {
        const auto rest = bytes.substr(at);
        std::size_t passed = kMagicText.size();
        if (rest.size() >= kHeaderBytes) {
            const auto size = kHeaderBytes + load_le<std::uint32_t>(rest.data() + kLengthAt);
            const auto found = decode_deferred(rest.substr(0, size));
            if (found) {
                visit(*found);
                passed = size;
            }
        }
        at = bytes.find(kMagicText, at + passed);
    }
}

}  // namespace opsrelay::spool
