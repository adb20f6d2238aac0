// Which ids were seen: an exact table of the newest ids, in memory, rebuilt from the id log at start.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "admit/options.h"
#include "core/clock.h"
#include "core/event.h"
#include "core/outcome.h"

namespace opsrelay::admit {

/// XXH3-128 of (lane, 0, id) with the install's salt, so that nobody can prepare collisions offline.
[[nodiscard]] IdHash hash_id(std::uint64_t salt, LaneId lane, std::string_view id) noexcept;

/// What admission decided about an id.
struct Verdict {
    bool fresh = true;
    DuplicateKind kind = DuplicateKind::same;  // when not fresh
    Position first_position = 0;  // when not fresh: where the first one stands, 0 when recovered
};

/// Remembers the newest ids in two generations: when the current one holds ids_max / 2 ids it becomes
/// the previous one and the previous one is forgotten, so between ids_max / 2 and ids_max ids are
/// remembered. Exact: 128-bit compare. Thread: ingest (recover() before it starts).
class DedupeIndex {
public:
    explicit DedupeIndex(Options options);

    /// Remembers `id` as first seen at `position` unless it is known already.
    [[nodiscard]] Verdict admit(const IdHash& id, std::uint64_t content_hash, Position position,
                                std::int64_t received_unix_ms);
    /// Puts back an id from the id log. Oldest first.
    void recover(const IdHash& id, std::int64_t received_unix_ms);
    /// Forgets ids whose commit was given up, so that a re-send is accepted.
    void forget(const IdHash& id) noexcept;

    [[nodiscard]] std::size_t size() const noexcept;
    /// Receive time of the oldest id that is certainly remembered; nullopt when empty.
    [[nodiscard]] std::optional<std::int64_t> oldest_unix_ms() const noexcept;
    /// Ids forgotten to stay within ids_max.
    [[nodiscard]] std::uint64_t evicted() const noexcept;
};

}  // namespace opsrelay::admit
