#include "parse/json_reader.h"

#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>
#include <xxhash.h>

#include <algorithm>

#include "parse/utf8.h"

namespace opsrelay::parse {

namespace {

// Numbers stay text: whether 742.0 or 1e400 is a token count is decided exactly, not by a double.
// RapidJSON's own UTF-8 check looks at strings only; ours has seen the whole text by then.
constexpr unsigned kFlags = rapidjson::kParseInsituFlag | rapidjson::kParseNumbersAsStringsFlag;

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace

// RapidJSON's SAX events. Strings come as pointers into the scratch copy, so their offset is known;
// for everything else the stream stands right behind the token.
class JsonReader::Handler : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, Handler> {
public:
    Handler(JsonReader& reader, rapidjson::InsituStringStream& stream)
        : reader_(reader), stream_(stream) {}

    bool Null() { return note(ValueKind::null, tell() - 4, tell(), {}); }
    bool Bool(bool value) { return note(ValueKind::boolean, tell() - (value ? 4 : 5), tell(), {}); }
    bool RawNumber(const char* text, rapidjson::SizeType length, bool /*copy*/) {
        const auto begin = offset(text);
        // From the original: the scratch copy of a huge number may be masked.
        return note(ValueKind::number, begin, begin + length, reader_.text_.substr(begin, length));
    }
    bool String(const char* text, rapidjson::SizeType length, bool /*copy*/) {
        return note(ValueKind::string, offset(text) - 1, 0, {text, length});
    }
    bool Key(const char* text, rapidjson::SizeType length, bool /*copy*/);
    bool StartObject() { return open(ValueKind::object); }
    bool StartArray() { return open(ValueKind::array); }
    bool EndObject(rapidjson::SizeType /*members*/) { return close(); }
    bool EndArray(rapidjson::SizeType /*elements*/) { return close(); }

    [[nodiscard]] bool too_deep() const noexcept { return too_deep_; }
    [[nodiscard]] bool root_is_object() const noexcept { return root_is_object_; }

private:
    [[nodiscard]] std::uint32_t tell() noexcept {
        return static_cast<std::uint32_t>(stream_.Tell());
    }
    [[nodiscard]] std::uint32_t offset(const char* text) const noexcept {
        return static_cast<std::uint32_t>(text - reader_.scratch_.data());
    }
    bool note(ValueKind kind, std::uint32_t begin, std::uint32_t end, std::string_view text);
    bool open(ValueKind kind);
    bool close();

    JsonReader& reader_;
    rapidjson::InsituStringStream& stream_;
    Value* expected_ = nullptr;  // the top-level field whose value comes next
    Value* open_ = nullptr;      // the top-level field whose object or array we are in
    unsigned depth_ = 0;
    bool too_deep_ = false;
    bool root_is_object_ = false;
};

bool JsonReader::Handler::Key(const char* text, rapidjson::SizeType length, bool /*copy*/) {
    if (depth_ != 1) return true;
    const std::string_view name(text, length);
    const auto field = find_field(name);
    if (!field) {
        reader_.other_keys_.push_back({XXH3_64bits(text, length), name});
        return true;
    }
    auto& value = reader_.fields_[index_of(*field)];
    if (value.kind != ValueKind::absent) {
        value.repeated = true;
        reader_.repeated_key_ = true;
        return true;  // the first value stands: it is only used to say what was rejected
    }
    value.key_begin = offset(text) - 1;
    expected_ = &value;
    return true;
}

bool JsonReader::Handler::note(ValueKind kind, std::uint32_t begin, std::uint32_t end,
                               std::string_view text) {
    if (expected_ == nullptr) return true;
    expected_->kind = kind;
    expected_->begin = begin;
    expected_->end = end;
    expected_->text = text;
    expected_ = nullptr;
    return true;
}

bool JsonReader::Handler::open(ValueKind kind) {
    if (depth_ == reader_.depth_max_) {
        too_deep_ = true;
        return false;
    }
    if (depth_ == 0) {
        root_is_object_ = kind == ValueKind::object;
    } else if (expected_ != nullptr) {
        open_ = expected_;
        note(kind, tell() - 1, 0, {});
    } else if (open_ == &reader_.fields_[index_of(Field::metadata)]) {
        reader_.metadata_nested_ = true;
    }
    ++depth_;
    return true;
}

bool JsonReader::Handler::close() {
    --depth_;
    if (depth_ == 1 && open_ != nullptr) {
        open_->end = tell();
        open_ = nullptr;
    }
    if (depth_ == 0) reader_.closing_brace_ = tell() - 1;
    return true;
}

void JsonReader::reset(std::string_view text) {
    text_ = text;
    fields_.fill({});
    other_keys_.clear();
    repeated_key_ = false;
    metadata_nested_ = false;
    closing_brace_ = 0;
}

std::optional<ReadFailure> JsonReader::read(std::string_view text) {
    const auto bad_byte = first_invalid_utf8(text);
    scratch_.assign(text);
    auto failure = run(text);
    if (failure && failure->offset < bad_byte) return failure;
    if (bad_byte != std::string_view::npos) {
        return ReadFailure{RejectReason::bad_utf8, "invalid UTF-8", bad_byte};
    }
    const auto lone = first_lone_surrogate(text);
    if (lone != std::string_view::npos) {
        return ReadFailure{RejectReason::bad_utf8, "an unpaired surrogate escape", lone};
    }
    find_repeated_keys();
    return std::nullopt;
}

std::optional<ReadFailure> JsonReader::run(std::string_view text) {
    for (auto masked = false;; masked = true) {
        reset(text);
        rapidjson::InsituStringStream stream(scratch_.data());
        Handler handler(*this, stream);
        rapidjson::Reader reader;
        const auto result = reader.Parse<kFlags>(stream, handler);
        if (result.Code() == rapidjson::kParseErrorNumberTooBig && !masked) {
            mask_huge_numbers();
            continue;
        }
        if (handler.too_deep()) {
            return ReadFailure{RejectReason::too_deep, "too deep", result.Offset()};
        }
        if (result.Code() == rapidjson::kParseErrorStringUnicodeSurrogateInvalid) {
            return ReadFailure{RejectReason::bad_utf8, "an unpaired surrogate escape",
                               result.Offset()};
        }
        if (result.IsError()) {
            return ReadFailure{RejectReason::not_json, rapidjson::GetParseError_En(result.Code()),
                               result.Offset()};
        }
        // RapidJSON ends at a NUL byte; ours may have more behind it.
        if (stream.Tell() != text.size()) {
            return ReadFailure{RejectReason::not_json, "a NUL byte", stream.Tell()};
        }
        if (!handler.root_is_object()) {
            return ReadFailure{RejectReason::not_an_object, "not an object", 0};
        }
        return std::nullopt;
    }
}

// 1e400 is JSON, but RapidJSON refuses what no double holds, even when it only passes the text on.
// So in the scratch copy every number that could be too large becomes a zero of the same length.
// What is not a number by the grammar stays, and is refused as such.
void JsonReader::mask_huge_numbers() {
    scratch_.assign(text_);
    for (std::size_t i = 0; i < text_.size();) {
        const auto c = text_[i];
        if (c == '"') {
            for (++i; i < text_.size() && text_[i] != '"'; ++i) {
                if (text_[i] == '\\') ++i;
            }
            ++i;
            continue;
        }
        if (c != '-' && !is_digit(c)) {
            ++i;
            continue;
        }
        const auto length = number_length(text_.substr(i));
        if (length > 4) {  // the shortest that no double holds is 1e309
            scratch_.replace(i, length, length, '0');
            scratch_[i + 1] = '.';
        }
        i += std::max<std::size_t>(length, 1);
        while (i < text_.size() && is_digit(text_[i])) ++i;  // of what is no number: once is enough
    }
}

void JsonReader::find_repeated_keys() {
    constexpr std::size_t kFew = 16;
    const auto same = [](const OtherKey& a, const OtherKey& b) {
        return a.hash == b.hash && a.text == b.text;
    };
    if (other_keys_.size() <= kFew) {
        for (auto key = other_keys_.begin(); key != other_keys_.end(); ++key) {
            const auto equal = [&](const OtherKey& other) { return same(*key, other); };
            if (std::any_of(other_keys_.begin(), key, equal)) repeated_key_ = true;
        }
        return;
    }
    const auto before = [](const OtherKey& a, const OtherKey& b) {
        return a.hash != b.hash ? a.hash < b.hash : a.text < b.text;
    };
    std::sort(other_keys_.begin(), other_keys_.end(), before);
    if (std::adjacent_find(other_keys_.begin(), other_keys_.end(), same) != other_keys_.end()) {
        repeated_key_ = true;
    }
}

std::size_t JsonReader::end_of(const Value& value) const noexcept {
    if (value.kind != ValueKind::string) return value.end;
    auto i = static_cast<std::size_t>(value.begin) + 1;
    while (text_[i] != '"') i += text_[i] == '\\' ? 2 : 1;
    return i + 1;
}

}  // namespace opsrelay::parse
