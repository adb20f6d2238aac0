#include "spool/id_entry.h"

#include "spool/byte_order.h"

namespace opsrelay::spool {
namespace {

constexpr std::size_t kTimeBytes = 8;
constexpr std::size_t kIdBytes = 16;

}  // namespace

std::string encode_ids(const Segment& segment) {
    std::string value(kTimeBytes + kIdBytes * segment.ids.size(), '\0');
    store_be(value.data(), static_cast<std::uint64_t>(segment.id_clock_ms));
    char* at = value.data() + kTimeBytes;
    for (const auto& id : segment.ids) {
        store_be(at, id.hi);
        store_be(at + 8, id.lo);
        at += kIdBytes;
    }
    return value;
}

void visit_ids(std::string_view value,
               const std::function<void(const IdHash&, std::int64_t id_clock_ms)>& sink) {
    if (value.size() % kIdBytes != kTimeBytes) return;
    const auto count = value.size() / kIdBytes;
    const auto at_ms = static_cast<std::int64_t>(load_be<std::uint64_t>(value.data()));
    for (std::size_t i = 0; i < count; ++i) {
        const char* const at = value.data() + kTimeBytes + i * kIdBytes;
        sink({load_be<std::uint64_t>(at), load_be<std::uint64_t>(at + 8)}, at_ms);
    }
}

}  // namespace opsrelay::spool
