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
std::size_t DedupeIndex::Table::slot_of(const IdHash& id) const noexcept {
    auto slot = home(id);
    while (ids_[slot] != IdHash{} && ids_[slot] != id) slot = (slot + 1) & (ids_.size() - 1);
    return slot;
}

const DedupeIndex::Details* DedupeIndex::Table::find(const IdHash& id) const noexcept {
    const auto slot = slot_of(id);
    return ids_[slot] == id ? &details_[slot] : nullptr;
}

void DedupeIndex::Table::insert(const IdHash& id, const Details& details, Position position) {
    if (2 * (count_ + 1) > ids_.size()) grow();
    const auto slot = slot_of(id);
    OPSRELAY_ASSERT(ids_[slot] == IdHash{});
    ids_[slot] = id;
    details_[slot] = details;
    last_ = std::max(last_, position);
    ++count_;
}

void DedupeIndex::Table::grow() {
    std::vector<IdHash> ids(2 * ids_.size());
    std::vector<Details> details(ids.size());
    ids.swap(ids_);
    details.swap(details_);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] == IdHash{}) continue;
        const auto slot = slot_of(ids[i]);
        ids_[slot] = ids[i];
        details_[slot] = details[i];
    }
}

DedupeIndex::DedupeIndex(Options options)
    : table_ids_(std::max<std::size_t>(options.table_ids, 1)) {
    OPSRELAY_ASSERT(options.table_ids < kPositionMask);
    tables_.emplace_back(std::min(kFirstCapacity, capacity_for(table_ids_)));
}

void DedupeIndex::prefetch(const IdHash& id) const noexcept {
    const auto key = usable(id);
    for (const auto& table : tables_) table.prefetch(key);
    for (const auto& filter : filters_) filter->prefetch(key);
}

const DedupeIndex::Details* DedupeIndex::find(const IdHash& id) const noexcept {
    for (auto table = tables_.rbegin(); table != tables_.rend(); ++table) {
        if (const auto* details = table->find(id)) return details;
    }
    return nullptr;
}

bool DedupeIndex::may_be_in_a_run(const IdHash& id) const noexcept {
    return std::any_of(filters_.begin(), filters_.end(),
                       [&id](const auto& filter) { return filter->may_contain(id); });
}

void DedupeIndex::insert(const IdHash& id, const Details& details, Position position) {
    // The next table will be as full as this one.
    if (tables_.back().count() == table_ids_) tables_.emplace_back(tables_.back().capacity());
    tables_.back().insert(id, details, position);
}

Position DedupeIndex::position_of(const Details& details) const noexcept {
    const auto low = static_cast<std::uint64_t>(details.position >> 1U);
    return newest_ - ((newest_ - low) & kPositionMask);
}

Verdict DedupeIndex::admit(const IdHash& id, std::uint64_t content_hash, Position position) {
    const auto key = usable(id);
    const auto content = static_cast<std::uint32_t>(content_hash);
    if (const auto* first = find(key)) {
        if ((first->position & 1U) != 0) {
            return {Verdict::Kind::duplicate, DuplicateKind::unknown, 0};
        }
        const auto kind = first->content == content ? DuplicateKind::same : DuplicateKind::conflict;
        return {Verdict::Kind::duplicate, kind, position_of(*first)};
    }
    newest_ = std::max(newest_, position);
    const auto low = static_cast<std::uint32_t>(position & kPositionMask);
    insert(key, {content, low << 1U}, position);
    return {.kind = may_be_in_a_run(id) ? Verdict::Kind::maybe : Verdict::Kind::fresh};
}

void DedupeIndex::recover(const IdHash& id) {
    const auto key = usable(id);
    if (find(key) == nullptr) insert(key, {0, 1U}, 0);
}

void DedupeIndex::set_filters(std::vector<std::shared_ptr<const IdFilter>> filters) {
    filters_ = std::move(filters);
}

void DedupeIndex::drop_covered(Position position) {
    while (tables_.front().last() <= position) {
        if (tables_.size() == 1) {
            if (tables_.front().count() == 0) return;
            tables_.emplace_back(std::min(kFirstCapacity, capacity_for(table_ids_)));
        }
        tables_.pop_front();
    }
}

std::size_t DedupeIndex::size() const noexcept {
    std::size_t ids = 0;
    for (const auto& table : tables_) ids += table.count();
    return ids;
}

Bytes DedupeIndex::bytes() const noexcept {
    Bytes sum;
    for (const auto& table : tables_) sum += table.bytes();
    return sum;
}

}  // namespace opsrelay::admit
