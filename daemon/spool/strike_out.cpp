#include "spool/strike_out.h"

#include <algorithm>
#include <cstddef>

#include "core/assert.h"

namespace opsrelay::spool {

void strike_out(Segment& segment, std::span<const std::uint32_t> indices) {
    segment.maybe.clear();
    if (indices.empty()) return;
    auto& payload = segment.payload;
    std::size_t kept = 0;
    std::size_t kept_bytes = 0;
    std::size_t begin = 0;
    auto struck = indices.begin();
    for (std::uint32_t i = 0; i < segment.count; ++i) {
        const auto length = payload.find('\n', begin) + 1 - begin;
        if (struck != indices.end() && *struck == i) {
            ++struck;
        } else {
            const auto from = payload.begin() + static_cast<std::ptrdiff_t>(begin);
            std::copy_n(from, length, payload.begin() + static_cast<std::ptrdiff_t>(kept_bytes));
            kept_bytes += length;
            segment.ids[kept++] = segment.ids[i];
        }
        begin += length;
    }
    OPSRELAY_ASSERT(struck == indices.end());
    payload.resize(kept_bytes);
    segment.ids.resize(kept);
    segment.count = static_cast<std::uint32_t>(kept);
}

}  // namespace opsrelay::spool
