#include "listen/http_batch.h"

#include <fmt/format.h>
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <string>

namespace opsrelay::listen {

namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view text) noexcept {
    const auto first = text.find_first_not_of(kSpace);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::vector<std::string_view> lines_of(std::string_view body) {
    std::vector<std::string_view> lines;
    while (!body.empty() && lines.size() <= kBatchEventsMax) {
        const auto end = body.find('\n');
        const auto line = trimmed(body.substr(0, end));
        if (!line.empty()) lines.push_back(line);
        body.remove_prefix(end == std::string_view::npos ? body.size() : end + 1);
    }
    return lines;
}

// What is wrong with it, with the byte where; empty: nothing.
std::string complaint_about_json(std::string_view body) {
    rapidjson::MemoryStream stream(body.data(), body.size());
    rapidjson::BaseReaderHandler<> ignore;
    rapidjson::Reader reader;
    const auto read = reader.Parse<rapidjson::kParseIterativeFlag>(stream, ignore);
    if (read.IsError()) {
        return fmt::format("{} at byte {}", rapidjson::GetParseError_En(read.Code()),
                           read.Offset());
    }
    // It takes a NUL for the end.
    return stream.Tell() == body.size() ? "" : fmt::format("NUL at byte {}", stream.Tell());
}

// The commas of a well-formed array's first level part its items. `inside` begins behind its '['.
std::vector<std::string_view> items_of(std::string_view inside) {
    std::vector<std::string_view> items;
    std::size_t begin = 0;
    std::size_t depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < inside.size() && items.size() <= kBatchEventsMax; ++i) {
        const char c = inside[i];
        if (in_string) {
            if (c == '\\') ++i;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if ((c == ',' || c == ']') && depth == 0) {
            const auto item = trimmed(inside.substr(begin, i - begin));
            if (!item.empty()) items.push_back(item);  // empty: of an empty array
            begin = i + 1;
        } else if (c == '[' || c == '{') {
            ++depth;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return items;
}

}  // namespace

std::optional<BatchForm> batch_form(std::string_view content_type) noexcept {
    const auto type = content_type.substr(0, content_type.find(';'));
    if (same_text(trimmed(type), "application/json")) return BatchForm::array;
    for (const std::string_view name : {"application/x-ndjson", "application/ndjson",
                                        "application/jsonl", "application/x-jsonlines"}) {
        if (same_text(trimmed(type), name)) return BatchForm::ndjson;
    }
    return std::nullopt;
}

std::optional<std::vector<std::string_view>> split_batch(BatchForm form, std::string_view body) {
    if (form == BatchForm::ndjson) return lines_of(body);
    body = trimmed(body);
    if (body.starts_with('{')) return std::vector{body};
    if (!body.starts_with('[') || !complaint_about_json(body).empty()) return std::nullopt;
    return items_of(body.substr(1));
}

std::string complaint_about_array(std::string_view body) {
    constexpr std::string_view kMark = "\xEF\xBB\xBF";
    const auto skipped = std::min(body.find_first_not_of(kSpace), body.size());
    body.remove_prefix(skipped);
    if (body.starts_with(kMark))
        return "begins with a byte order mark (RFC 8259 8.1); leave it out";
    if (!body.starts_with('[')) {
        return "must be a JSON array; one event a line is Content-Type: application/x-ndjson";
    }
    auto complaint = complaint_about_json(trimmed(body));
    return fmt::format("not a whole JSON array: {}, counted from its [", complaint);
}

BatchResult result_of(const Offered& offered) noexcept {
    switch (offered.admission) {
        case Admission::accepted:
        case Admission::duplicate: break;
        case Admission::rejected:
            return {rejection_status(offered.reject), to_string(offered.reject)};
        case Admission::shed:
            return {offered.shed == ShedReason::rate_limited ? 429 : 503, to_string(offered.shed)};
    }
    return {};
}

HttpReply batch_reply(std::span<const BatchResult> results, Settled settled) {
    const bool durable = settled == Settled::durable || settled == Settled::struck;
    const BatchResult waited{503, settled == Settled::given_up ? "given_up" : "not_confirmed"};
    HttpReply reply;
    auto& body = reply.body;
    body = "{\"results\":[";
    for (std::size_t i = 0; i < results.size(); ++i) {
        const auto& result = results[i].status == 200 && !durable ? waited : results[i];
        body.append(i == 0 ? "" : ",").append("{\"index\":").append(std::to_string(i));
        body.append(",\"status\":").append(std::to_string(result.status)).append(",\"reason\":");
        if (result.reason.empty()) {
            body.append("null}");
        } else {
            body.append("\"").append(result.reason).append("\"}");
        }
    }
    body.append("]}");
    return reply;
}

}  // namespace opsrelay::listen
