#include "admit/dedupe.h"

#define XXH_STATIC_LINKING_ONLY  // XXH3_state_t on the stack
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "core/assert.h"

namespace opsrelay::admit {

namespace {

constexpr std::size_t kFirstCapacity = 4096;
constexpr std::uint64_t kPositionMask = (1ULL << 31U) - 1;

// All zero marks a free slot. The one id in 2^128 that hashes to it is kept as its neighbour.
IdHash usable(const IdHash& id) noexcept { return id == IdHash{} ? IdHash{0, 1} : id; }

std::size_t capacity_for(std::size_t ids) noexcept { return std::bit_ceil(2 * ids); }

}  // namespace

IdHash hash_id(std::uint64_t salt, LaneId lane, std::string_view id) noexcept {
    const auto number = static_cast<std::uint16_t>(lane);
    constexpr std::size_t kScope = 3;
    const std::array<char, kScope> scope{static_cast<char>(number & 0xFFU),
                                         static_cast<char>(number >> 8U), '\0'};
    std::array<char, kScope + 256> text;  // an externalRequestId has at most 256 bytes
    XXH128_hash_t hash;
    if (id.size() <= text.size() - kScope) {
        std::copy(id.begin(), id.end(), std::copy(scope.begin(), scope.end(), text.begin()));
        hash = XXH3_128bits_withSeed(text.data(), kScope + id.size(), salt);
    } else {
        XXH3_state_t state;
        XXH3_INITSTATE(&state);
        XXH3_128bits_reset_withSeed(&state, salt);
        XXH3_128bits_update(&state, scope.data(), scope.size());
        XXH3_128bits_update(&state, id.data(), id.size());
        hash = XXH3_128bits_digest(&state);
    }
    return {hash.high64, hash.low64};
}

// The slot that holds `id`, or the free one that ends its probe.
std::size_t DedupeIndex::Generation::slot_of(const IdHash& id) const noexcept {
    auto slot = home(id);
    while (slots_[slot].id != IdHash{} && slots_[slot].id != id) slot = next(slot);
    return slot;
}

const DedupeIndex::Entry* DedupeIndex::Generation::find(const IdHash& id) const noexcept {
    const auto& entry = slots_[slot_of(id)];
    return entry.id == id ? &entry : nullptr;
}

void DedupeIndex::Generation::insert(const Entry& entry, std::int64_t received_unix_ms) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    auto& slot = slots_[slot_of(entry.id)];
    OPSRELAY_ASSERT(slot.id == IdHash{});
    slot = entry;
    if (count_ == 0) first_unix_ms_ = received_unix_ms;
    ++count_;
}

bool DedupeIndex::Generation::erase(const IdHash& id) noexcept {
    auto hole = slot_of(id);
    if (slots_[hole].id != id) return false;
    // Knuth, volume 3, 6.4, algorithm R: pull back every later entry of the run whose home does not
    // lie behind the hole.
    for (auto slot = next(hole); slots_[slot].id != IdHash{}; slot = next(slot)) {
        const auto mask = slots_.size() - 1;
        const auto from_home = (slot - home(slots_[slot].id)) & mask;
        const auto from_hole = (slot - hole) & mask;
        if (from_home < from_hole) continue;
        slots_[hole] = slots_[slot];
        hole = slot;
    }
    slots_[hole] = {};
    --count_;
    return true;
}

void DedupeIndex::Generation::clear() noexcept {
    std::fill(slots_.begin(), slots_.end(), Entry{});
    count_ = 0;
}

void DedupeIndex::Generation::grow() {
    std::vector<Entry> old(2 * slots_.size());
    old.swap(slots_);
    for (const auto& entry : old) {
        if (entry.id != IdHash{}) slots_[slot_of(entry.id)] = entry;
    }
}

DedupeIndex::DedupeIndex(Options options)
    : generation_ids_max_(std::max<std::size_t>(options.ids_max / 2, 1)),
      current_(std::min(kFirstCapacity, capacity_for(generation_ids_max_))),
      previous_(current_.capacity()) {
    OPSRELAY_ASSERT(options.ids_max < kPositionMask);
}

const DedupeIndex::Entry* DedupeIndex::find(const IdHash& id) const noexcept {
    if (const auto* entry = current_.find(id)) return entry;
    return previous_.count() == 0 ? nullptr : previous_.find(id);
}

void DedupeIndex::insert(const Entry& entry, std::int64_t received_unix_ms) {
    if (current_.count() == generation_ids_max_) {
        evicted_ += previous_.count();
        previous_.clear();
        std::swap(current_, previous_);  // both keep their memory
    }
    current_.insert(entry, received_unix_ms);
}

Position DedupeIndex::position_of(const Entry& entry) const noexcept {
    const auto low = static_cast<std::uint64_t>(entry.position >> 1U);
    return newest_ - ((newest_ - low) & kPositionMask);
}

Verdict DedupeIndex::admit(const IdHash& id, std::uint64_t content_hash, Position position,
                           std::int64_t received_unix_ms) {
    const auto key = usable(id);
    const auto content = static_cast<std::uint32_t>(content_hash);
    if (const auto* entry = find(key)) {
        if ((entry->position & 1U) != 0) return {false, DuplicateKind::unknown, 0};
        const auto kind = entry->content == content ? DuplicateKind::same : DuplicateKind::conflict;
        return {false, kind, position_of(*entry)};
    }
    newest_ = std::max(newest_, position);
    const auto low = static_cast<std::uint32_t>(position & kPositionMask);
    insert({key, content, low << 1U}, received_unix_ms);
    return {};
}

void DedupeIndex::recover(const IdHash& id, std::int64_t received_unix_ms) {
    const auto key = usable(id);
    if (find(key) == nullptr) insert({key, 0, 1U}, received_unix_ms);
}

void DedupeIndex::forget(const IdHash& id) noexcept {
    const auto key = usable(id);
    if (!current_.erase(key)) static_cast<void>(previous_.erase(key));
}

std::size_t DedupeIndex::size() const noexcept { return current_.count() + previous_.count(); }

std::optional<std::int64_t> DedupeIndex::oldest_unix_ms() const noexcept {
    if (previous_.count() > 0) return previous_.first_unix_ms();
    if (current_.count() > 0) return current_.first_unix_ms();
    return std::nullopt;
}

Bytes DedupeIndex::bytes() const noexcept {
    return {(current_.capacity() + previous_.capacity()) * sizeof(Entry)};
}

}  // namespace opsrelay::admit
