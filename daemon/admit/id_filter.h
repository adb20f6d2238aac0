// A set of ids that never misses one, and is wrong about a few others: the memory of ids that lie
// in a run on disk. Built on the maintenance thread, asked by ingest, storage saves an I/O with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/event.h"
#include "core/units.h"

namespace opsrelay::admit {

/// Split-block Bloom filter (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
/// Filters", 2007): an id sets eight bits of one 64-byte block, so asking costs one cache miss.
/// 16 bits an id: 0.1 % of other ids are found too; 12 bits: 0.4 %. Once built it does not change,
/// so threads may share it.
class IdFilter {
public:
    /// Sized for `ids` ids at `bits` bits each; both at least 1.
    IdFilter(std::uint64_t ids, unsigned bits);

    void insert(const IdHash& id) noexcept;
    /// False: certainly not inserted.
    [[nodiscard]] bool may_contain(const IdHash& id) const noexcept;
    /// Fetches what may_contain() will read, so that other work can go on meanwhile.
    void prefetch(const IdHash& id) const noexcept { __builtin_prefetch(&blocks_[block_of(id)]); }
    [[nodiscard]] Bytes bytes() const noexcept { return {blocks_.size() * sizeof(Block)}; }

    /// The blocks one after the other, their words little-endian.
    [[nodiscard]] std::string encode() const;
    /// nullopt: not a whole number of blocks, or none.
    [[nodiscard]] static std::optional<IdFilter> decode(std::string_view bytes);

private:
    static constexpr std::size_t kWords = 8;
    struct alignas(64) Block {
        std::array<std::uint64_t, kWords> words{};
    };
    explicit IdFilter(std::vector<Block> blocks) : blocks_(std::move(blocks)) {}
    // Scales the high half of the hash to the blocks; the low half says which bits.
    [[nodiscard]] std::size_t block_of(const IdHash& id) const noexcept {
        __extension__ using Wide = unsigned __int128;
        return static_cast<std::size_t>(Wide{id.hi} * blocks_.size() >> 64U);
    }
    [[nodiscard]] static std::uint64_t bit(const IdHash& id, std::size_t word) noexcept {
        return 1ULL << (id.lo >> (6 * word) & 63U);
    }

    std::vector<Block> blocks_;
};

}  // namespace opsrelay::admit
