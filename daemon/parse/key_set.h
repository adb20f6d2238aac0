// A set of JSON keys in which case does not matter.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace opsrelay::parse {

/// Compares whole keys; only the case of ASCII letters is ignored. Constant after construction.
class KeySet {
public:
    KeySet() = default;
    explicit KeySet(std::span<const std::string> keys);

    [[nodiscard]] bool contains(std::string_view key) const noexcept {
        // Most keys of an event end here.
        return (filter_ >> slot(key) & 1U) != 0 && find(key);
    }

private:
    // Length and first character spread usual names over the bits of the filter.
    static unsigned slot(std::string_view key) noexcept {
        const auto first = key.empty() ? 0U : static_cast<unsigned char>(key.front()) | 0x20U;
        return (first * 5U + static_cast<unsigned>(key.size())) % 64U;
    }
    [[nodiscard]] bool find(std::string_view key) const noexcept;

    std::vector<std::string> keys_;  // lower case
    std::uint64_t filter_ = 0;
};

}  // namespace opsrelay::parse
