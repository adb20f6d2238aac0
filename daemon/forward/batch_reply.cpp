#include "forward/batch_reply.h"

#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

namespace opsrelay::forward {

namespace {

// Iterative: a body of nothing but '[' must not use up the stack.
constexpr unsigned kParseFlags =
    rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag;
constexpr int kStatusMin = 100;
constexpr int kStatusMax = 599;

std::optional<unsigned> number(const rapidjson::Value& object, const char* name) {
    const auto found = object.FindMember(name);
    if (found == object.MemberEnd() || !found->value.IsUint()) return std::nullopt;
    return found->value.GetUint();
}

std::string text_of(const rapidjson::Value& value) {
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    value.Accept(writer);
    return {buffer.GetString(), buffer.GetSize()};
}

Reply reply_for(const rapidjson::Value& result, int status, const Reply& whole) {
    Reply reply;
    reply.status = status;
    const bool success = status >= 200 && status < 300;
    if (!success || result.HasMember("ok")) reply.body = text_of(result);
    reply.retry_after = whole.retry_after;
    reply.date = whole.date;
    return reply;
}

Reply no_result() {
    Reply reply;
    reply.transport = Transport::reset;
    reply.error = "the reply to the batch has no result for this event";
    return reply;
}

}  // namespace

std::optional<std::vector<Reply>> read_batch_reply(const Reply& reply, std::size_t count) {
    if (reply.body_cut) return std::vector<Reply>(count, no_result());
    rapidjson::Document json;
    json.Parse<kParseFlags>(reply.body.data(), reply.body.size());
    if (json.HasParseError() || !json.IsObject()) return std::nullopt;
    const rapidjson::Value& object = json;
    const auto results = object.FindMember("results");
    if (results == object.MemberEnd() || !results->value.IsArray()) return std::nullopt;
    std::vector<Reply> replies(count, no_result());
    std::vector<bool> known(count);
    for (const auto& result : results->value.GetArray()) {
        if (!result.IsObject()) continue;
        const auto index = number(result, "index");
        const auto status = number(result, "status");
        if (!index || *index >= count || known[*index]) continue;
        if (!status || *status < kStatusMin || *status > kStatusMax) continue;
        known[*index] = true;
        replies[*index] = reply_for(result, static_cast<int>(*status), reply);
    }
    return replies;
}

}  // namespace opsrelay::forward
