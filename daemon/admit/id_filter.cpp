#include "admit/id_filter.h"

#include <algorithm>
#include <utility>

#include "core/assert.h"

namespace opsrelay::admit {

namespace {

constexpr std::size_t kWordBytes = 8;

}  // namespace

IdFilter::IdFilter(std::uint64_t ids, unsigned bits) {
    OPSRELAY_ASSERT(ids > 0);
    OPSRELAY_ASSERT(bits > 0);
    constexpr std::uint64_t kBlockBits = 8 * sizeof(Block);
    blocks_.resize(static_cast<std::size_t>((ids * bits + kBlockBits - 1) / kBlockBits));
}

void IdFilter::insert(const IdHash& id) noexcept {
    auto& words = blocks_[block_of(id)].words;
    for (std::size_t i = 0; i < kWords; ++i) words[i] |= bit(id, i);
}

bool IdFilter::may_contain(const IdHash& id) const noexcept {
    const auto& words = blocks_[block_of(id)].words;
    for (std::size_t i = 0; i < kWords; ++i) {
        if ((words[i] & bit(id, i)) == 0) return false;
    }
    return true;
}

std::string IdFilter::encode() const {
    std::string bytes(blocks_.size() * sizeof(Block), '\0');
    auto to = bytes.begin();
    for (const auto& block : blocks_) {
        for (auto word : block.words) {
            for (std::size_t i = 0; i < kWordBytes; ++i, word >>= 8U) {
                *to++ = static_cast<char>(static_cast<unsigned char>(word & 0xFFU));
            }
        }
    }
    return bytes;
}

std::optional<IdFilter> IdFilter::decode(std::string_view bytes) {
    if (bytes.empty() || bytes.size() % sizeof(Block) != 0) return std::nullopt;
    std::vector<Block> blocks(bytes.size() / sizeof(Block));
    const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
    for (auto& block : blocks) {
        for (auto& word : block.words) {
            for (std::size_t i = 0; i < kWordBytes; ++i) {
                word |= static_cast<std::uint64_t>(*from++) << (8 * i);
            }
        }
    }
    return IdFilter(std::move(blocks));
}

}  // namespace opsrelay::admit
