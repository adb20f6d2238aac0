// Pure: a deferred record's bytes, and when one is due.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/event.h"
#include "core/units.h"
#include "spool/store.h"

namespace opsrelay::spool {

inline constexpr std::uint8_t kDeferredVersion = 1;
/// No record is due later than this after the attempt that failed: upstream may have asked to wait
/// for so long.
inline constexpr milliseconds kDeferredDelayMax = std::chrono::days{7};

/// A due time further away than any can be is of a clock that was set back since.
[[nodiscard]] constexpr bool is_due(std::int64_t due_unix_ms, std::int64_t now_unix_ms) noexcept {
    return due_unix_ms <= now_unix_ms || due_unix_ms > now_unix_ms + kDeferredDelayMax.count();
}

/// What is stored for a record of this lane.
[[nodiscard]] std::string encode_deferred(LaneId lane, const DeferredRecord& record);
/// The length of that.
[[nodiscard]] Bytes deferred_bytes(const DeferredRecord& record) noexcept;

struct StoredDeferred {
    LaneId lane = kDefaultLane;
    DeferredRecord record;
};
/// Errors: spool_corrupt.
[[nodiscard]] Result<StoredDeferred> decode_deferred(std::string_view value);
/// Visits every whole one in any bytes, in their order.
void scan_deferred(std::string_view bytes, const std::function<void(const StoredDeferred&)>& visit);

}  // namespace opsrelay::spool
