#include "forward/dead_letter.h"

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <xxhash.h>

namespace opsrelay::forward {

namespace {

constexpr std::size_t kDetailBytesMax = 1024;

std::string text(const rapidjson::Document& event, const char* name) {
    const auto found = event.FindMember(name);
    if (found == event.MemberEnd() || !found->value.IsString()) return {};
    return {found->value.GetString(), found->value.GetStringLength()};
}

// Cuts at most 3 bytes more, so that the cut does not go through a UTF-8 sequence.
std::string_view first_bytes(std::string_view body, std::size_t count) {
    if (body.size() <= count) return body;
    const auto is_continuation = [&](std::size_t i) {
        return (static_cast<unsigned char>(body[i]) & 0xc0U) == 0x80U;
    };
    const auto floor = count - 3;
    while (count > floor && is_continuation(count)) --count;
    return body.substr(0, count);
}

}  // namespace

std::uint64_t content_hash(std::string_view payload) noexcept {
    return XXH3_64bits(payload.data(), payload.size());
}

spool::DeadLetter make_dead_letter(std::string_view payload, const Reply& reply, WallTime now) {
    spool::DeadLetter dead;
    dead.kind = spool::DeadKind::upstream;
    dead.unix_ms = unix_ms(now);
    dead.reason = fmt::format("upstream_{}", reply.status);
    dead.detail = first_bytes(reply.body, kDetailBytesMax);
    dead.source = "upstream";
    dead.bytes = payload.size();
    dead.hash = content_hash(payload);
    dead.payload = payload;
    rapidjson::Document event;
    event.Parse<rapidjson::kParseIterativeFlag>(payload.data(), payload.size());
    if (!event.HasParseError() && event.IsObject()) {
        dead.id = text(event, "externalRequestId");
        dead.provider = text(event, "provider");
        dead.model = text(event, "model");
    }
    return dead;
}

}  // namespace opsrelay::forward
