#include "observe/tap.h"

#include <rapidjson/document.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

namespace opsrelay::observe {

namespace {

constexpr std::size_t kBytesPerCredit = 4096;

using Json = rapidjson::Value;

const Json* member(const Json& event, const char* name) {
    const auto found = event.FindMember(name);
    return found == event.MemberEnd() ? nullptr : &found->value;
}

// Not through a UTF-8 sequence.
std::string cut(std::string_view text) {
    auto size = std::min(text.size(), kShownMax);
    const auto continues = [text](std::size_t at) {
        return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U;
    };
    while (size > 0 && continues(size)) --size;
    return std::string(text.substr(0, size));
}

std::string text(const Json& event, const char* name) {
    const auto* const value = member(event, name);
    if (value == nullptr || !value->IsString()) return {};
    return cut({value->GetString(), value->GetStringLength()});
}

std::optional<std::uint64_t> number(const Json& event, const char* name) {
    const auto* const value = member(event, name);
    if (value == nullptr || !value->IsUint64()) return std::nullopt;
    return value->GetUint64();
}

}  // namespace

ShownFields read_shown(std::string_view json) {
    rapidjson::Document event;
    event.Parse<rapidjson::kParseIterativeFlag>(json.data(), json.size());
    if (event.HasParseError() || !event.IsObject()) return {};
    return {text(event, "externalRequestId"),
            text(event, "provider"),
            text(event, "model"),
            text(event, "status"),
            number(event, "inputTokens"),
            number(event, "outputTokens"),
            number(event, "totalTokens")};
}

void Tap::see(Sighting seen, std::string_view json) {
    const auto cost = static_cast<std::int64_t>(1 + json.size() / kBytesPerCredit);
    if (credit_.fetch_sub(cost, std::memory_order_relaxed) < cost) {
        credit_.fetch_add(cost, std::memory_order_relaxed);
        missed_.fetch_add(seen.events, std::memory_order_relaxed);
        return;
    }
    if (json.empty()) {
        seen.fields.id = cut(seen.fields.id);
        seen.fields.provider = cut(seen.fields.provider);
        seen.fields.model = cut(seen.fields.model);
    } else {
        seen.fields = read_shown(json);
    }
    asio::post(executor_, [this, seen = std::move(seen)] {
        if (sink_) sink_(seen);
    });
}

void Tap::grant(std::int64_t more, std::int64_t most) noexcept {
    auto now = credit_.load(std::memory_order_relaxed);
    while (!credit_.compare_exchange_weak(now, std::min(now + more, most),
                                          std::memory_order_relaxed)) {
    }
}

}  // namespace opsrelay::observe
