// One table per enum that is logged, used as a metric label or parsed: the table is the only place
// where an enumerator's text is written.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>

namespace opsrelay {

template <typename Enum>
struct EnumName {
    Enum value;
    std::string_view name;
};

template <typename Enum>
constexpr std::size_t index_of(Enum value) {
    return static_cast<std::size_t>(static_cast<std::underlying_type_t<Enum>>(value));
}

/// True when the table's values are 0..n-1 in order and every name is non-empty.
template <typename Enum, std::size_t N>
constexpr bool dense(const std::array<EnumName<Enum>, N>& table) {
    for (std::size_t i = 0; i < N; ++i) {
        if (index_of(table[i].value) != i || table[i].name.empty()) return false;
    }
    return true;
}

template <typename Enum, std::size_t N>
constexpr std::optional<Enum> parse_enum(const std::array<EnumName<Enum>, N>& table,
                                         std::string_view text) {
    for (const auto& row : table) {
        if (row.name == text) return row.value;
    }
    return std::nullopt;
}

}  // namespace opsrelay
