#include "core/json_document.h"

#include <rapidjson/document.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <charconv>
#include <cstdint>
#include <system_error>

namespace opsrelay {

namespace {

using rapidjson::SizeType;

template <typename Number>
bool read_whole(std::string_view text, Number& number) {
    const auto [stop, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
    return ec == std::errc{} && stop == text.data() + text.size();
}

/// Fills a document as RapidJSON does, but for numbers, which come as their text.
class Filler {
public:
    explicit Filler(rapidjson::Document& document) : document_(document) {}

    bool Null() { return document_.Null(); }
    bool Bool(bool value) { return document_.Bool(value); }
    bool Int(int value) { return document_.Int(value); }
    bool Uint(unsigned value) { return document_.Uint(value); }
    bool Int64(std::int64_t value) { return document_.Int64(value); }
    bool Uint64(std::uint64_t value) { return document_.Uint64(value); }
    bool Double(double value) { return document_.Double(value); }
    bool RawNumber(const char* data, SizeType size, bool /*copy*/) {
        const std::string_view text(data, size);
        std::uint64_t natural = 0;
        if (read_whole(text, natural)) return document_.Uint64(natural);
        std::int64_t whole = 0;
        if (text != "-0" && read_whole(text, whole)) return document_.Int64(whole);
        double number = 0;
        return read_whole(text, number) && document_.Double(number);
    }
    bool String(const char* data, SizeType size, bool /*copy*/) {
        return document_.String(data, size, true);
    }
    bool StartObject() { return document_.StartObject(); }
    bool Key(const char* data, SizeType size, bool /*copy*/) {
        return document_.Key(data, size, true);
    }
    bool EndObject(SizeType members) { return document_.EndObject(members); }
    bool StartArray() { return document_.StartArray(); }
    bool EndArray(SizeType items) { return document_.EndArray(items); }

private:
    rapidjson::Document& document_;
};

/// What Document::Populate() calls.
class Generator {
public:
    explicit Generator(std::string_view json) : json_(json) {}

    bool operator()(rapidjson::Document& into) {
        rapidjson::MemoryStream stream(json_.data(), json_.size());
        Filler filler(into);
        rapidjson::Reader reader;
        constexpr unsigned kFlags =
            rapidjson::kParseIterativeFlag | rapidjson::kParseNumbersAsStringsFlag;
        const bool read = !reader.Parse<kFlags>(stream, filler).IsError();
        good_ = read && stream.Tell() == json_.size();  // it takes a NUL for the end
        return read;
    }
    [[nodiscard]] bool good() const noexcept { return good_; }

private:
    std::string_view json_;
    bool good_ = false;
};

}  // namespace

bool read_json_document(std::string_view json, rapidjson::Document& into) {
    Generator generator(json);
    into.Populate(generator);
    return generator.good();
}

}  // namespace opsrelay
