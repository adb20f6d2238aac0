// Strict reading of small JSON objects (scripts, rates): every key is known or refused, every
// refusal names the key's path, the value and what is allowed.
#pragma once

#include <rapidjson/document.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/enum_table.h"
#include "core/error.h"

namespace opsrelay::upstream {

[[nodiscard]] inline std::string_view text_of(const rapidjson::Value& value) {
    return {value.GetString(), value.GetStringLength()};
}
/// The value as JSON for an error message: at most about 60 bytes of it.
[[nodiscard]] std::string short_json(const rapidjson::Value& value);
/// ASCII letters only.
[[nodiscard]] std::string lower(std::string_view text);
/// "plan.limt: unknown key; did you mean plan.limit? (value 5)"
[[nodiscard]] Error unknown_key_error(std::string_view key, const rapidjson::Value& value,
                                      std::span<const std::string_view> known);

/// Reads members of one object into existing variables; a missing member leaves its variable alone.
/// The first problem is kept and given back by finish(), which also refuses unknown keys.
class ObjectReader {
public:
    ObjectReader(const rapidjson::Value& object, std::string path)
        : object_(object), path_(std::move(path)) {
        if (!object_.IsObject()) refuse("", object_, "an object");
    }

    /// The member, or null when absent; the key becomes known.
    [[nodiscard]] const rapidjson::Value* take(std::string_view key);
    void text(std::string_view key, std::string& out);
    void integer(std::string_view key, std::int64_t low, std::int64_t high, std::int64_t& out);
    template <typename Enum, std::size_t N>
    void choice(std::string_view key, const std::array<EnumName<Enum>, N>& table, Enum& out) {
        const auto* value = take(key);
        if (value == nullptr) return;
        if (value->IsString()) {
            if (const auto found = parse_enum(table, text_of(*value))) {
                out = *found;
                return;
            }
        }
        std::string names;
        for (const auto& row : table) names.append(names.empty() ? "" : ", ").append(row.name);
        refuse(key, *value, "one of " + names);
    }

    /// "path.key: must be WANTED, not VALUE"
    void refuse(std::string_view key, const rapidjson::Value& value, std::string_view wanted);
    void fail(Error error) {
        if (!failed_) error_ = std::move(error);
        failed_ = true;
    }
    [[nodiscard]] std::string path_of(std::string_view key) const;
    [[nodiscard]] Result<void> finish();

private:
    const rapidjson::Value& object_;
    std::string path_;
    std::vector<std::string_view> known_;
    bool failed_ = false;
    Error error_{Errc::config_invalid, {}};
};

}  // namespace opsrelay::upstream
