// Which ids were seen: an exact table of the newest ids, in memory, rebuilt from the id log at
// start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "admit/options.h"
#include "core/event.h"
#include "core/outcome.h"
#include "core/units.h"

namespace opsrelay::admit {

/// XXH3-128 of (lane, 0, id) with the install's salt, so that nobody can prepare collisions
/// offline.
[[nodiscard]] IdHash hash_id(std::uint64_t salt, LaneId lane, std::string_view id) noexcept;

/// What admission decided about an id.
struct Verdict {
    bool fresh = true;
    DuplicateKind kind = DuplicateKind::same;  // when not fresh
    Position first_position = 0;  // when not fresh: where the first one stands, 0 when recovered
};

/// Remembers the newest ids in two generations: when the current one holds ids_max / 2 ids it
/// becomes the previous one and the previous one is forgotten, so between ids_max / 2 and ids_max
/// ids are remembered. Exact: 128-bit compare. Thread: ingest (recover() before it starts).
class DedupeIndex {
public:
    explicit DedupeIndex(Options options);

    /// Remembers `id` as first seen at `position` unless it is known already. Positions do not
    /// decrease, except that one may be used again after forget().
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
    [[nodiscard]] std::uint64_t evicted() const noexcept { return evicted_; }
    /// Memory of the tables.
    [[nodiscard]] Bytes bytes() const noexcept;

private:
    // 24 bytes. The position is kept as its low 31 bits: an id leaves after at most ids_max later
    // ones, so the newest position, which is less than 2^31 ahead, tells the rest.
    struct Entry {
        IdHash id;  // all zero: free
        std::uint32_t content = 0;
        std::uint32_t position = 0;  // low 31 bits << 1, bit 0: recovered, position unknown
    };
    static_assert(sizeof(Entry) == 24);

    // Open addressing with linear probing at a load of at most 0.5; deletion shifts the run back,
    // so that there are no tombstones and a probe always ends.
    class Generation {
    public:
        explicit Generation(std::size_t capacity) : slots_(capacity) {}

        [[nodiscard]] const Entry* find(const IdHash& id) const noexcept;
        void insert(const Entry& entry, std::int64_t received_unix_ms);
        [[nodiscard]] bool erase(const IdHash& id) noexcept;
        void clear() noexcept;

        [[nodiscard]] std::size_t count() const noexcept { return count_; }
        [[nodiscard]] std::size_t capacity() const noexcept { return slots_.size(); }
        [[nodiscard]] std::int64_t first_unix_ms() const noexcept { return first_unix_ms_; }

    private:
        [[nodiscard]] std::size_t home(const IdHash& id) const noexcept {
            return static_cast<std::size_t>(id.lo) & (slots_.size() - 1);
        }
        [[nodiscard]] std::size_t next(std::size_t slot) const noexcept {
            return (slot + 1) & (slots_.size() - 1);
        }
        [[nodiscard]] std::size_t slot_of(const IdHash& id) const noexcept;
        void grow();

        std::vector<Entry> slots_;  // a power of two
        std::size_t count_ = 0;
        std::int64_t first_unix_ms_ = 0;  // of the first id since clear(), when count_ > 0
    };

    [[nodiscard]] const Entry* find(const IdHash& id) const noexcept;
    void insert(const Entry& entry, std::int64_t received_unix_ms);
    [[nodiscard]] Position position_of(const Entry& entry) const noexcept;

    const std::size_t generation_ids_max_;
    Generation current_;
    Generation previous_;
    Position newest_ = 0;
    std::uint64_t evicted_ = 0;
};

}  // namespace opsrelay::admit
