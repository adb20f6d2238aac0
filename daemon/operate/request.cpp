#include "operate/request.h"

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "core/json_document.h"
#include "operate/dead_json.h"

namespace opsrelay::operate {

namespace {

using Json = rapidjson::Value;

std::string_view text_of(const Json& value) { return {value.GetString(), value.GetStringLength()}; }

Error wrong(std::string_view field, std::string_view must) {
    return {Errc::config_invalid, fmt::format("{} must be {}", field, must)};
}

Result<spool::DeadKey> key_field(std::string_view field, const Json& value) {
    const auto key = value.IsString() ? parse_key(text_of(value)) : std::nullopt;
    if (key) return *key;
    return wrong(field, "a key such as upstream-0-12");
}

Result<void> keys_field(Request& request, const Json& value) {
    if (!value.IsArray() || value.Size() == 0 || value.Size() > kLettersMax) {
        return wrong("keys", fmt::format("an array of 1 to {} keys", kLettersMax));
    }
    for (const auto& one : value.GetArray()) {
        const auto key = key_field("keys", one);
        if (!key) return key.error();
        request.keys.push_back(*key);
    }
    return {};
}

Result<void> set_field(Request& request, const Json& value) {
    if (!value.IsObject()) return wrong("set", "an object of fields and their values");
    for (const auto& member : value.GetObject()) {
        rapidjson::StringBuffer buffer;
        rapidjson::Writer<rapidjson::StringBuffer> out(buffer);
        member.value.Accept(out);
        request.set.emplace_back(text_of(member.name),
                                 std::string(buffer.GetString(), buffer.GetSize()));
    }
    return {};
}

Result<void> ends_field(std::vector<std::pair<std::string, Seq>>& into, std::string_view field,
                        const Json& value) {
    if (!value.IsObject() || value.MemberCount() > kEndsMax) {
        return wrong(field, fmt::format("an object of at most {} lanes", kEndsMax));
    }
    for (const auto& member : value.GetObject()) {
        if (!member.value.IsUint64()) return wrong(field, "numbers by lane");
        into.emplace_back(text_of(member.name), member.value.GetUint64());
    }
    return {};
}

Result<void> as_of_field(Request& request, const Json& value) {
    const auto must = [] { return wrong("as_of", "what an earlier reply said"); };
    if (!value.IsObject() || value.MemberCount() != 2) return must();
    const auto admission = value.FindMember("admission");
    const auto lanes = value.FindMember("lanes");
    if (admission == value.MemberEnd() || lanes == value.MemberEnd()) return must();
    if (!admission->value.IsUint64()) return must();
    auto& as_of = request.as_of.emplace();
    as_of.admission = admission->value.GetUint64();
    return ends_field(as_of.lanes, "as_of.lanes", lanes->value);
}

Result<void> bool_field(bool& into, std::string_view field, const Json& value) {
    if (!value.IsBool()) return wrong(field, "true or false");
    into = value.GetBool();
    return {};
}

Result<void> text_field(std::string& into, std::string_view field, const Json& value) {
    if (!value.IsString() || value.GetStringLength() == 0) return wrong(field, "a text");
    into = text_of(value);
    return {};
}

Result<void> take(Request& request, std::string_view field, const Json& value) {
    if (field == "lane") return text_field(request.lane, field, value);
    if (field == "reason") return text_field(request.reason, field, value);
    if (field == "keys") return keys_field(request, value);
    if (field == "set") return set_field(request, value);
    if (field == "ends") return ends_field(request.ends, field, value);
    if (field == "as_of") return as_of_field(request, value);
    if (field == "all") return bool_field(request.all, field, value);
    if (field == "events") return bool_field(request.events, field, value);
    if (field == "configured") return bool_field(request.configured, field, value);
    if (field == "kind") {
        request.kind = value.IsString() ? parse_enum(kDeadKinds, text_of(value)) : std::nullopt;
        if (!request.kind) return wrong(field, "admission or upstream");
        return {};
    }
    if (field == "after") {
        const auto key = key_field(field, value);
        if (!key) return key.error();
        request.after = *key;
        return {};
    }
    if (field == "limit") {
        if (!value.IsUint() || value.GetUint() == 0 || value.GetUint() > kLettersMax) {
            return wrong(field, fmt::format("from 1 to {}", kLettersMax));
        }
        request.limit = value.GetUint();
        return {};
    }
    return Error{Errc::config_invalid, fmt::format("{} is not known", field)};
}

}  // namespace

Result<Request> parse_request(std::string_view body) {
    rapidjson::Document document;
    if (!read_json_document(body, document) || !document.IsObject()) {
        return Error{Errc::config_invalid, "the body must be a JSON object"};
    }
    Request request;
    const Json& object = document;
    for (const auto& member : object.GetObject()) {
        auto taken = take(request, text_of(member.name), member.value);
        if (!taken) return taken.error();
    }
    return request;
}

}  // namespace opsrelay::operate
