#include "parse/json_reader.h"

#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>

#include "parse/scanner.h"
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
    Handler(JsonReader& reader, std::string_view text, rapidjson::InsituStringStream& stream)
        : scratch_(reader.scratch_.data()),
          text_(text),
          outline_(reader.outline_),
          stream_(stream) {}

    bool Null() { return scalar(ValueKind::null, tell() - 4, tell(), {}); }
    bool Bool(bool value) {
        return scalar(ValueKind::boolean, tell() - (value ? 4 : 5), tell(), {});
    }
    bool RawNumber(const char* text, rapidjson::SizeType length, bool /*copy*/) {
        const auto begin = offset(text);
        // From the original: the scratch copy of a huge number may be masked.
        return scalar(ValueKind::number, begin, begin + length, text_.substr(begin, length));
    }
    bool String(const char* text, rapidjson::SizeType length, bool /*copy*/) {
        return scalar(ValueKind::string, offset(text) - 1, 0, {text, length});
    }
    bool Key(const char* text, rapidjson::SizeType length, bool /*copy*/) {
        outline_.key({text, length}, offset(text) - 1);
        return true;
    }
    bool StartObject() { return open(ValueKind::object); }
    bool StartArray() { return open(ValueKind::array); }
    bool EndObject(rapidjson::SizeType /*members*/) { return close(); }
    bool EndArray(rapidjson::SizeType /*elements*/) { return close(); }

    [[nodiscard]] bool too_deep() const noexcept { return too_deep_; }

private:
    [[nodiscard]] std::uint32_t tell() noexcept {
        return static_cast<std::uint32_t>(stream_.Tell());
    }
    [[nodiscard]] std::uint32_t offset(const char* text) const noexcept {
        return static_cast<std::uint32_t>(text - scratch_);
    }
    bool scalar(ValueKind kind, std::uint32_t begin, std::uint32_t end, std::string_view text) {
        outline_.scalar(kind, begin, end, text);
        return true;
    }
    bool open(ValueKind kind) {
        too_deep_ = !outline_.open(kind, tell() - 1);
        return !too_deep_;
    }
    bool close() {
        outline_.close(tell());
        return true;
    }

    const char* const scratch_;
    const std::string_view text_;
    Outline& outline_;
    rapidjson::InsituStringStream& stream_;
    bool too_deep_ = false;
};

std::optional<ReadFailure> JsonReader::read(std::string_view text) {
    outline_.reset();
    const auto scanned = scan(text, outline_);
    if (!scanned.taken) return read_reference(text);
    newlines_ = scanned.newlines;
    outline_.finish();
    return std::nullopt;
}

std::optional<ReadFailure> JsonReader::read_reference(std::string_view text) {
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
    newlines_ =
        text.find('\n') != std::string_view::npos || text.find('\r') != std::string_view::npos;
    outline_.finish();
    return std::nullopt;
}

std::optional<ReadFailure> JsonReader::run(std::string_view text) {
    for (auto masked = false;; masked = true) {
        outline_.reset();
        rapidjson::InsituStringStream stream(scratch_.data());
        Handler handler(*this, text, stream);
        rapidjson::Reader reader;
        const auto result = reader.Parse<kFlags>(stream, handler);
        if (result.Code() == rapidjson::kParseErrorNumberTooBig && !masked) {
            mask_huge_numbers(text);
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
        if (!outline_.root_is_object()) {
            return ReadFailure{RejectReason::not_an_object, "not an object", 0};
        }
        return std::nullopt;
    }
}

// 1e400 is JSON, but RapidJSON refuses what no double holds, even when it only passes the text on.
// So in the scratch copy every number that could be too large becomes a zero of the same length.
// What is not a number by the grammar stays, and is refused as such.
void JsonReader::mask_huge_numbers(std::string_view text) {
    scratch_.assign(text);
    for (std::size_t i = 0; i < text.size();) {
        const auto c = text[i];
        if (c == '"') {
            for (++i; i < text.size() && text[i] != '"'; ++i) {
                if (text[i] == '\\') ++i;
            }
            ++i;
            continue;
        }
        if (c != '-' && !is_digit(c)) {
            ++i;
            continue;
        }
        const auto length = number_length(text.substr(i));
        if (length > 4) {  // the shortest that no double holds is 1e309
            scratch_.replace(i, length, length, '0');
            scratch_[i + 1] = '.';
        }
        i += std::max<std::size_t>(length, 1);
        while (i < text.size() && is_digit(text[i])) ++i;  // of what is no number: once is enough
    }
}

}  // namespace opsrelay::parse
