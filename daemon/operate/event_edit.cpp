#include "operate/event_edit.h"

#include <fmt/format.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <map>
#include <set>

namespace opsrelay::operate {

namespace {

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;
using Size = rapidjson::SizeType;
// Numbers as they are written: a double would round what is longer.
constexpr unsigned kFlags = rapidjson::kParseNumbersAsStringsFlag | rapidjson::kParseIterativeFlag |
                            rapidjson::kParseFullPrecisionFlag;

/// Copies what is parsed, except the values of top-level fields that have another one.
class Copier : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, Copier> {
public:
    Copier(Writer& out, std::map<std::string, std::string> edits)
        : out_(out), edits_(std::move(edits)) {}

    bool Null() {
        return value([&] { return out_.Null(); });
    }
    bool Bool(bool b) {
        return value([&] { return out_.Bool(b); });
    }
    bool RawNumber(const char* text, Size size, bool) {
        return value([&] { return out_.RawValue(text, size, rapidjson::kNumberType); });
    }
    bool String(const char* text, Size size, bool) {
        return value([&] { return out_.String(text, size); });
    }
    bool StartObject() { return open(true); }
    bool StartArray() { return open(false); }
    bool EndObject(Size) {
        if (depth_ == 1 && !add_rest()) return false;
        return close([&] { return out_.EndObject(); });
    }
    bool EndArray(Size) {
        return close([&] { return out_.EndArray(); });
    }
    bool Key(const char* text, Size size, bool) {
        if (skipping()) return true;
        const auto edit = depth_ == 1 ? edits_.find(std::string(text, size)) : edits_.end();
        if (edit == edits_.end()) return out_.Key(text, size);
        replace_next_ = true;
        if (!met_.insert(edit->first).second) return true;  // a second one of this name is left out
        return out_.Key(text, size) && put(edit->second);
    }

private:
    [[nodiscard]] bool skipping() const noexcept { return skip_below_ != 0; }
    bool put(const std::string& json) {
        return out_.RawValue(json.data(), json.size(), rapidjson::kNullType);
    }
    template <typename Write>
    bool value(Write write) {
        if (depth_ == 0) return false;  // not an object
        if (skipping()) return true;
        if (std::exchange(replace_next_, false)) return true;
        return write();
    }
    bool open(bool object) {
        if (depth_ == 0 && !object) return false;
        ++depth_;
        if (skipping()) return true;
        if (std::exchange(replace_next_, false)) {
            skip_below_ = depth_;
            return true;
        }
        return object ? out_.StartObject() : out_.StartArray();
    }
    template <typename Write>
    bool close(Write write) {
        const auto was = depth_--;
        if (!skipping()) return write();
        if (was == skip_below_) skip_below_ = 0;
        return true;
    }
    bool add_rest() {
        for (const auto& [key, json] : edits_) {
            if (met_.contains(key)) continue;
            if (!out_.Key(key.data(), static_cast<Size>(key.size())) || !put(json)) return false;
        }
        return true;
    }

    Writer& out_;
    const std::map<std::string, std::string> edits_;
    std::set<std::string> met_;
    unsigned depth_ = 0;
    unsigned skip_below_ = 0;  // 0: nothing is skipped; else the depth of the value that is
    bool replace_next_ = false;
};

}  // namespace

bool is_json(std::string_view text) {
    rapidjson::MemoryStream stream(text.data(), text.size());
    rapidjson::Reader reader;
    rapidjson::BaseReaderHandler<> nobody;
    const bool read = !reader.Parse<rapidjson::kParseIterativeFlag>(stream, nobody).IsError();
    return read && stream.Tell() == text.size();  // it takes a NUL for the end
}

Result<std::string> set_fields(std::string_view event, const std::vector<FieldEdit>& edits) {
    std::map<std::string, std::string> by_field;
    for (const auto& [field, json] : edits) {
        if (!is_json(json)) {
            return Error{Errc::config_invalid, fmt::format("{}: the value is no JSON", field)};
        }
        by_field[field] = json;
    }
    rapidjson::StringBuffer buffer;
    Writer out(buffer);
    Copier copier(out, std::move(by_field));
    rapidjson::MemoryStream stream(event.data(), event.size());
    rapidjson::Reader reader;
    if (reader.Parse<kFlags>(stream, copier).IsError() || stream.Tell() != event.size()) {
        return Error{Errc::config_invalid, "the event is no JSON object"};
    }
    return std::string(buffer.GetString(), buffer.GetSize());
}

}  // namespace opsrelay::operate
