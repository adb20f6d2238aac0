#include "upstream/json.h"

#include <fmt/format.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <algorithm>

#include "config/keys.h"

namespace opsrelay::upstream {

namespace {

constexpr std::size_t kShownMax = 60;

std::string shortened(std::string_view text) {
    if (text.size() <= kShownMax) return std::string(text);
    return fmt::format("{}... ({} bytes)", text.substr(0, kShownMax), text.size());
}

}  // namespace

std::string short_json(const rapidjson::Value& value) {
    // Not their contents: writing nested ones is recursive.
    if (value.IsObject()) return "an object";
    if (value.IsArray()) return "an array";
    rapidjson::StringBuffer buffer;
    rapidjson::Writer writer(buffer);
    value.Accept(writer);
    return shortened({buffer.GetString(), buffer.GetSize()});
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (auto& c : out) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return out;
}

Error unknown_key_error(std::string_view key, const rapidjson::Value& value,
                        std::span<const std::string_view> known) {
    return Error{Errc::config_invalid,
                 fmt::format("{} (value {})", config::unknown_key(shortened(key), known),
                             short_json(value))};
}

const rapidjson::Value* ObjectReader::take(std::string_view key) {
    known_.push_back(key);
    if (!object_.IsObject()) return nullptr;
    const rapidjson::Value name(
        rapidjson::StringRef(key.data(), static_cast<rapidjson::SizeType>(key.size())));
    const auto member = object_.FindMember(name);
    return member == object_.MemberEnd() ? nullptr : &member->value;
}

void ObjectReader::text(std::string_view key, std::string& out) {
    const auto* value = take(key);
    if (value == nullptr) return;
    if (!value->IsString()) return refuse(key, *value, "a string");
    out = text_of(*value);
}

void ObjectReader::integer(std::string_view key, std::int64_t low, std::int64_t high,
                           std::int64_t& out) {
    const auto* value = take(key);
    if (value == nullptr) return;
    if (!value->IsInt64() || value->GetInt64() < low || value->GetInt64() > high) {
        return refuse(key, *value, fmt::format("an integer from {} to {}", low, high));
    }
    out = value->GetInt64();
}

std::string ObjectReader::path_of(std::string_view key) const {
    if (path_.empty()) return std::string(key);
    return key.empty() ? path_ : fmt::format("{}.{}", path_, key);
}

void ObjectReader::refuse(std::string_view key, const rapidjson::Value& value,
                          std::string_view wanted) {
    fail(Error{Errc::config_invalid,
               fmt::format("{}: must be {}, not {}", path_of(key), wanted, short_json(value))});
}

Result<void> ObjectReader::finish() {
    if (!failed_) {
        for (const auto& member : object_.GetObject()) {
            const auto key = text_of(member.name);
            if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
            fail(with_prefix(unknown_key_error(key, member.value, known_), path_));
            break;
        }
    }
    if (failed_) return error_;
    return {};
}

}  // namespace opsrelay::upstream
