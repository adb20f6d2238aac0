#include "upstream/json.h"

#include <fmt/format.h>

namespace opsrelay::upstream {

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
    if (!value->IsString()) return fail(key, "must be a string");
    out = text_of(*value);
}

void ObjectReader::flag(std::string_view key, bool& out) {
    const auto* value = take(key);
    if (value == nullptr) return;
    if (!value->IsBool()) return fail(key, "must be true or false");
    out = value->GetBool();
}

void ObjectReader::real(std::string_view key, double& out) {
    const auto* value = take(key);
    if (value == nullptr) return;
    if (!value->IsNumber() || value->GetDouble() < 0) return fail(key, "must be a number >= 0");
    out = value->GetDouble();
}

void ObjectReader::integer(std::string_view key, std::int64_t low, std::int64_t high,
                           std::int64_t& out) {
    const auto* value = take(key);
    if (value == nullptr) return;
    if (!value->IsInt64() || value->GetInt64() < low || value->GetInt64() > high) {
        return fail(key, fmt::format("must be an integer from {} to {}", low, high));
    }
    out = value->GetInt64();
}

std::string ObjectReader::path_of(std::string_view key) const {
    if (path_.empty()) return std::string(key);
    return key.empty() ? path_ : fmt::format("{}.{}", path_, key);
}

void ObjectReader::fail(std::string_view key, std::string_view problem) {
    const auto path = path_of(key);
    fail(Error{Errc::config_invalid, fmt::format("{}: {}", path.empty() ? "body" : path, problem)});
}

Result<void> ObjectReader::finish() {
    if (!failed_) {
        for (const auto& member : object_.GetObject()) {
            const auto key = text_of(member.name);
            if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
            std::string names;
            for (const auto name : known_) names.append(names.empty() ? "" : ", ").append(name);
            fail(key, "unknown key; known are " + names);
            break;
        }
    }
    if (failed_) return error_;
    return {};
}

void append_escaped(std::string& out, std::string_view text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(c);
        } else if (byte < 0x20) {
            out.append("\\u00");
            out.push_back(kHex[byte >> 4U]);
            out.push_back(kHex[byte & 15U]);
        } else {
            out.push_back(c);
        }
    }
}

void append_quoted(std::string& out, std::string_view text) {
    out.push_back('"');
    append_escaped(out, text);
    out.push_back('"');
}

}  // namespace opsrelay::upstream
