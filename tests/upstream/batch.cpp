#include "upstream/batch.h"

#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <string>

#include "upstream/json.h"

namespace opsrelay::upstream {

namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::vector<std::string_view> lines_of(std::string_view body, std::size_t items_max) {
    std::vector<std::string_view> items;
    while (!body.empty() && items.size() <= items_max) {
        const auto end = body.find('\n');
        const auto line = trimmed(body.substr(0, end));
        if (!line.empty()) items.push_back(line);
        body.remove_prefix(end == std::string_view::npos ? body.size() : end + 1);
    }
    return items;
}

Result<void> check_array(std::string_view body) {
    rapidjson::MemoryStream stream(body.data(), body.size());
    rapidjson::BaseReaderHandler<> ignore;
    rapidjson::Reader reader;
    constexpr unsigned kFlags =
        rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;
    const auto parsed = reader.Parse<kFlags>(stream, ignore);
    if (parsed.IsError()) {
        return Error{Errc::refused, fmt::format("not JSON at byte {}: {}", parsed.Offset(),
                                                rapidjson::GetParseError_En(parsed.Code()))};
    }
    if (trimmed(body).front() == '[') return {};
    return Error{Errc::refused,
                 "not a JSON array; NDJSON needs Content-Type: application/x-ndjson"};
}

/// The commas of a well-formed array's first level part its items.
std::vector<std::string_view> elements_of(std::string_view body, std::size_t items_max) {
    const auto inside = trimmed(body).substr(1);
    std::vector<std::string_view> items;
    std::size_t begin = 0;
    std::size_t depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < inside.size() && items.size() <= items_max; ++i) {
        const char c = inside[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
            continue;
        }
        if (c == '"') in_string = true;
        if (c == '[' || c == '{') ++depth;
        if ((c == ',' || c == ']') && depth == 0) {
            const auto item = trimmed(inside.substr(begin, i - begin));
            if (!item.empty()) items.push_back(item);  // only of an empty array
            begin = i + 1;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return items;
}

}  // namespace

std::optional<BatchForm> batch_form(std::string_view content_type) {
    const auto type = lower(trimmed(content_type.substr(0, content_type.find(';'))));
    if (type == "application/json") return BatchForm::array;
    for (const auto* name : {"application/x-ndjson", "application/ndjson", "application/jsonl",
                             "application/x-jsonlines"}) {
        if (type == name) return BatchForm::ndjson;
    }
    return std::nullopt;
}

Result<std::vector<std::string_view>> split_batch(BatchForm form, std::string_view body,
                                                  std::size_t items_max) {
    if (form == BatchForm::ndjson) return lines_of(body, items_max);
    if (const auto good = check_array(body); !good) return good.error();
    return elements_of(body, items_max);
}

}  // namespace opsrelay::upstream
