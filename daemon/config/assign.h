// What the tables of keys share: putting a value that was read into its place, and showing it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "config/fields.h"
#include "core/error.h"

namespace opsrelay::config {

/// The value, or the error that there is instead.
template <typename T, typename Value>
[[nodiscard]] Result<void> assign(T& target, Result<Value> value) {
    if (!value) return value.error();
    target = static_cast<T>(*std::move(value));
    return {};
}

/// A file that may be unset: an empty text clears it.
[[nodiscard]] inline Result<void> assign_file(std::string& target, std::string_view key,
                                              std::string_view text) {
    if (text.empty()) {
        target.clear();
        return {};
    }
    return assign(target, path_field(key, text, true));
}

[[nodiscard]] inline std::string yes_no(bool value) { return value ? "true" : "false"; }

}  // namespace opsrelay::config
