#include "cli/dead_text.h"

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <array>

#include "cli/status_text.h"

namespace opsrelay::cli {

namespace {

using Json = rapidjson::Value;

constexpr std::array<const char*, 13> kFields{"key",    "kind",   "lane", "time",     "reason",
                                              "detail", "source", "id",   "provider", "model",
                                              "bytes",  "hash",   "event"};

const Json* member(const Json& object, const char* name) {
    if (!object.IsObject()) return nullptr;
    const auto found = object.FindMember(name);
    return found == object.MemberEnd() || found->value.IsNull() ? nullptr : &found->value;
}

// A text as it is, anything else as JSON; "" when absent.
std::string raw(const Json& letter, const char* name) {
    const auto* const value = member(letter, name);
    if (value == nullptr) return {};
    if (value->IsString()) return {value->GetString(), value->GetStringLength()};
    return json_text(*value);
}

std::string quoted(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"') out += '"';
        out += c;
    }
    return out + "\"";
}

}  // namespace

std::string json_text(const Json& value) {
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> out(buffer);
    value.Accept(out);
    return {buffer.GetString(), buffer.GetSize()};
}

std::string table_heading() {
    return fmt::format("{:<23} {:<25} {:<17} {:>8}  {}\n", "KEY", "TIME", "REASON", "BYTES", "ID");
}

std::string table_row(const Json& letter) {
    const auto* const replayable = member(letter, "replayable");
    const bool kept = replayable != nullptr && replayable->IsTrue();
    return fmt::format("{:<23} {:<25} {:<17} {:>8}  {}{}\n", printable(raw(letter, "key")),
                       printable(raw(letter, "time")), printable(raw(letter, "reason")),
                       printable(raw(letter, "bytes")), printable(raw(letter, "id")),
                       kept ? "" : "  (event not kept)");
}

std::string letter_text(const Json& letter) {
    std::string out;
    for (const auto* const name : kFields) {
        const auto value = printable(raw(letter, name));
        const bool missing = value.empty() && std::string_view(name) == "event";
        out +=
            fmt::format("{}: {}\n", name, missing ? "not kept, so it cannot be replayed" : value);
    }
    return out;
}

std::string csv_heading() {
    std::string out;
    for (const auto* const name : kFields) out += fmt::format("{}{}", out.empty() ? "" : ",", name);
    return out + "\r\n";
}

std::string csv_row(const Json& letter) {
    std::string out;
    for (const auto* const name : kFields) {
        if (name != kFields.front()) out += ',';
        out += quoted(raw(letter, name));
    }
    return out + "\r\n";
}

}  // namespace opsrelay::cli
