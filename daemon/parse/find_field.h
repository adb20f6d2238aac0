// From a key to its field: once for every key of an event, so it is inline.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "parse/rules.h"
#include "parse/word.h"

namespace opsrelay::parse {

namespace find_field_detail {

// Tells the names of the fields apart.
constexpr std::size_t slot_of(std::string_view name) noexcept {
    const std::size_t first = static_cast<unsigned char>(name.front());
    const std::size_t last = static_cast<unsigned char>(name.back());
    return (name.size() + 3 * first + 4 * last) % 64;
}

inline constexpr std::size_t kShortestName = kWordBytes / 2;

// The field of each slot; another one's name is never in a slot twice.
inline constexpr auto kSlots = [] {
    std::array<const EnumName<Field>*, 64> slots{};
    for (const auto& row : kFields) slots.at(slot_of(row.name)) = &row;
    return slots;
}();
static_assert(std::ranges::all_of(kFields, [](const auto& row) {
    return kSlots.at(slot_of(row.name)) == &row && row.name.size() > kShortestName;
}));

// Of texts of equal size from 4 bytes on; memcmp is slower for so few.
inline bool same_bytes(std::string_view a, std::string_view b) noexcept {
    if (a.size() < kWordBytes) {
        const auto half = [](const char* text) {
            std::uint32_t value = 0;
            std::memcpy(&value, text, sizeof value);
            return value;
        };
        const auto tail = a.size() - kWordBytes / 2;
        return half(a.data()) == half(b.data()) && half(a.data() + tail) == half(b.data() + tail);
    }
    const auto tail = a.size() - kWordBytes;
    for (std::size_t i = 0; i < tail; i += kWordBytes) {
        if (load_word(a.data() + i) != load_word(b.data() + i)) return false;
    }
    return load_word(a.data() + tail) == load_word(b.data() + tail);
}

}  // namespace find_field_detail

/// The field with exactly this name (case matters); nullopt for a field without a rule.
[[nodiscard]] inline std::optional<Field> find_field(std::string_view name) noexcept {
    namespace detail = find_field_detail;
    if (name.size() < detail::kShortestName) return std::nullopt;
    const auto* const row = detail::kSlots[detail::slot_of(name)];
    if (row == nullptr || row->name.size() != name.size() || !detail::same_bytes(name, row->name)) {
        return std::nullopt;
    }
    return row->value;
}

}  // namespace opsrelay::parse
