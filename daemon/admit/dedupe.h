// Which ids were seen: exact tables of those that are in no run on disk yet, and filters of those
// that are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string_view>
#include <vector>

#include "admit/id_filter.h"
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
    enum class Kind : std::uint8_t {
        fresh,     // never seen
        maybe,     // a filter knows it: fresh or seen, which only a look at the disk tells
        duplicate  // seen for certain
    };
    Kind kind = Kind::fresh;
    DuplicateKind duplicate = DuplicateKind::same;  // when a duplicate
    Position first_position = 0;  // when a duplicate: where the first one stands, 0 when recovered
};

/// Ids are kept in a chain of exact tables (128-bit compare), in the order of their positions,
/// until storage says that they are in a run; then the run's filter remembers them. A repeat of a
/// *maybe* is a duplicate of it and shares its fate. Thread: ingest (recover() before it starts).
class DedupeIndex {
public:
    explicit DedupeIndex(Options options);

    /// Fetches what admit() will read, so that other work can go on meanwhile.
    void prefetch(const IdHash& id) const noexcept;
    /// Remembers `id` as first seen at `position` unless it is a duplicate. Positions rise.
    [[nodiscard]] Verdict admit(const IdHash& id, std::uint64_t content_hash, Position position);
    /// Puts back an id from the id log.
    void recover(const IdHash& id);

    /// The filters of all runs, those asked first in front.
    void set_filters(std::vector<std::shared_ptr<const IdFilter>> filters);
    /// Every id up to `position` is in a run whose filter is set.
    void drop_covered(Position position);

    /// Ids in tables.
    [[nodiscard]] std::size_t size() const noexcept;
    /// Memory of the tables.
    [[nodiscard]] Bytes bytes() const noexcept;

private:
    // What is kept beside an id. The position is kept as its low 31 bits: the newest one, which is
    // less than 2^31 ahead, tells the rest.
    struct Details {
        std::uint32_t content = 0;
        std::uint32_t position = 0;  // low 31 bits << 1, bit 0: recovered, position unknown
    };
    static_assert(sizeof(Details) == 8);

    // Open addressing with linear probing at a load of at most 0.5, so that a probe always ends.
    // 24 bytes a slot, the details apart: a probe reads ids alone, and none lies across two cache
    // lines.
    class Table {
    public:
        explicit Table(std::size_t capacity) : ids_(capacity), details_(capacity) {}

        void prefetch(const IdHash& id) const noexcept { __builtin_prefetch(&ids_[home(id)]); }
        /// nullptr: not here.
        [[nodiscard]] const Details* find(const IdHash& id) const noexcept;
        /// `id` is not here (asserted).
        void insert(const IdHash& id, const Details& details, Position position);

        [[nodiscard]] std::size_t count() const noexcept { return count_; }
        [[nodiscard]] std::size_t capacity() const noexcept { return ids_.size(); }
        [[nodiscard]] Bytes bytes() const noexcept {
            return {capacity() * (sizeof(IdHash) + sizeof(Details))};
        }
        [[nodiscard]] Position last() const noexcept { return last_; }

    private:
        [[nodiscard]] std::size_t home(const IdHash& id) const noexcept {
            return static_cast<std::size_t>(id.lo) & (ids_.size() - 1);
        }
        [[nodiscard]] std::size_t slot_of(const IdHash& id) const noexcept;
        void grow();

        std::vector<IdHash> ids_;  // a power of two; all zero: free
        std::vector<Details> details_;
        std::size_t count_ = 0;
        Position last_ = 0;  // 0: only recovered ids
    };

    [[nodiscard]] const Details* find(const IdHash& id) const noexcept;
    [[nodiscard]] bool may_be_in_a_run(const IdHash& id) const noexcept;
    void insert(const IdHash& id, const Details& details, Position position);
    [[nodiscard]] Position position_of(const Details& details) const noexcept;

    const std::size_t table_ids_;
    std::deque<Table> tables_;  // never empty; the last one grows
    std::vector<std::shared_ptr<const IdFilter>> filters_;
    Position newest_ = 0;
};

}  // namespace opsrelay::admit
