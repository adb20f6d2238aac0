#include "parse/key_set.h"

#include <algorithm>

namespace opsrelay::parse {

namespace {

constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

KeySet::KeySet(std::span<const std::string> keys) {
    for (const auto& key : keys) {
        auto& added = keys_.emplace_back(key);
        std::transform(added.begin(), added.end(), added.begin(), lower);
        filter_ |= std::uint64_t{1} << slot(added);
    }
}

bool KeySet::find(std::string_view key) const noexcept {
    const auto same = [](char given, char wanted) { return lower(given) == wanted; };
    return std::any_of(keys_.begin(), keys_.end(), [&](const std::string& wanted) {
        return std::ranges::equal(key, wanted, same);
    });
}

}  // namespace opsrelay::parse
