#include "operate/dead_json.h"

#include <fmt/format.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <array>
#include <charconv>

#include "core/time_stamp.h"
#include "operate/event_edit.h"
#include "parse/utf8.h"

namespace opsrelay::operate {

namespace {

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    const auto* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
    return value;
}

// Each byte that begins no well-formed sequence becomes U+FFFD.
std::string mended(std::string_view text) {
    std::string out;
    for (;;) {
        const auto bad = parse::first_invalid_utf8(text);
        out += text.substr(0, bad);
        if (bad == std::string_view::npos) return out;
        out += "\xef\xbf\xbd";
        text.remove_prefix(bad + 1);
    }
}

void field(Writer& out, const char* key, std::string_view text) {
    const auto value = mended(text);
    out.Key(key);
    out.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}

}  // namespace

std::string to_text(const spool::DeadKey& key) {
    return fmt::format("{}-{}-{}", kDeadKinds.at(index_of(key.kind)).name,
                       static_cast<std::uint16_t>(key.lane), key.number);
}

std::optional<spool::DeadKey> parse_key(std::string_view text) {
    const auto first = text.find('-');
    const auto last = text.rfind('-');
    if (first == std::string_view::npos || first == last) return std::nullopt;
    const auto kind = parse_enum(kDeadKinds, text.substr(0, first));
    const auto lane = parse_number<std::uint16_t>(text.substr(first + 1, last - first - 1));
    const auto number = parse_number<std::uint64_t>(text.substr(last + 1));
    if (!kind || !lane || !number) return std::nullopt;
    return spool::DeadKey{*kind, LaneId{*lane}, *number};
}

std::string to_json(const spool::DeadLetter& letter, std::string_view lane_name, bool with_event) {
    rapidjson::StringBuffer buffer;
    Writer out(buffer);
    out.StartObject();
    field(out, "key", to_text(key_of(letter)));
    field(out, "kind", kDeadKinds.at(index_of(letter.kind)).name);
    field(out, "lane", lane_name);
    field(out, "time", TimeStamp(letter.unix_ms).text());
    field(out, "reason", letter.reason);
    field(out, "detail", letter.detail);
    field(out, "source", letter.source);
    field(out, "id", letter.id);
    field(out, "provider", letter.provider);
    field(out, "model", letter.model);
    out.Key("bytes");
    out.Uint64(letter.bytes);
    field(out, "hash", fmt::format("{:016x}", letter.hash));
    out.Key("replayable");
    out.Bool(!letter.payload.empty());
    if (!with_event || letter.payload.empty()) {
        out.Key("event");
        out.Null();
    } else if (is_json(letter.payload)) {
        out.Key("event");
        out.RawValue(letter.payload.data(), letter.payload.size(), rapidjson::kObjectType);
    } else {
        field(out, "event", letter.payload);
    }
    out.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

}  // namespace opsrelay::operate
