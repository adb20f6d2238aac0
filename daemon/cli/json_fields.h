// Fields of the daemon's JSON replies. What is missing or of another type is empty or zero: an
// older daemon may answer.
#pragma once

#include <rapidjson/document.h>

#include <cstdint>
#include <string>

#include "cli/status_text.h"

namespace opsrelay::cli {

/// nullptr: there is none.
[[nodiscard]] inline const rapidjson::Value* member(const rapidjson::Value& object,
                                                    const char* name) {
    if (!object.IsObject()) return nullptr;
    const auto found = object.FindMember(name);
    return found == object.MemberEnd() ? nullptr : &found->value;
}

/// For a terminal.
[[nodiscard]] inline std::string text(const rapidjson::Value& value) {
    return value.IsString() ? printable({value.GetString(), value.GetStringLength()})
                            : std::string{};
}
[[nodiscard]] inline std::string text(const rapidjson::Value& object, const char* name) {
    const auto* const value = member(object, name);
    return value == nullptr ? std::string{} : text(*value);
}

[[nodiscard]] inline double number(const rapidjson::Value& object, const char* name) {
    const auto* const value = member(object, name);
    return value != nullptr && value->IsNumber() ? value->GetDouble() : 0.0;
}

[[nodiscard]] inline std::uint64_t count(const rapidjson::Value& value) {
    return value.IsUint64() ? value.GetUint64() : 0;
}
[[nodiscard]] inline std::uint64_t count(const rapidjson::Value& object, const char* name) {
    const auto* const value = member(object, name);
    return value == nullptr ? 0 : count(*value);
}

}  // namespace opsrelay::cli
