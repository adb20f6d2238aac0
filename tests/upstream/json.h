// Strict reading of small JSON objects (control requests, scripts): every key is known or refused,
// every refusal names the key's path, the value's problem and what is allowed.
#pragma once

#include <rapidjson/document.h>

#include <algorithm>
#include <array>
#include <cstdint>
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

/// Reads members of one object into existing variables; a missing member leaves its variable alone.
/// The first problem is kept and given back by finish(), which also refuses unknown keys.
class ObjectReader {
public:
    ObjectReader(const rapidjson::Value& object, std::string path)
        : object_(object), path_(std::move(path)) {
        if (!object_.IsObject()) fail("", "must be an object");
    }

    /// The member, or null when absent; the key becomes known.
    [[nodiscard]] const rapidjson::Value* take(std::string_view key);
    void text(std::string_view key, std::string& out);
    void flag(std::string_view key, bool& out);
    void real(std::string_view key, double& out);
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
        fail(key, "must be one of " + names);
    }

    void fail(std::string_view key, std::string_view problem);
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

/// Appends `text` as a JSON string, quotes included.
void append_quoted(std::string& out, std::string_view text);
/// Appends `text` with JSON escapes for control characters, quotes and backslashes, without quotes.
void append_escaped(std::string& out, std::string_view text);

}  // namespace opsrelay::upstream
