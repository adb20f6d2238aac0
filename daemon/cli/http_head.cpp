#include "cli/http_head.h"

#include <fmt/format.h>
#include <strings.h>

#include <charconv>

namespace opsrelay::cli {

namespace {

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<std::size_t> parse_number(std::string_view text) {
    std::size_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
    return value;
}

}  // namespace

Error not_http(std::string_view why) {
    return {Errc::refused, fmt::format("the answer is not from opsrelay: {}", why)};
}

Result<std::optional<HttpHead>> parse_http_head(std::string_view bytes) {
    constexpr std::size_t kHeadMax = 16U << 10U;
    const auto end = bytes.find("\r\n\r\n");
    if (end == std::string_view::npos) {
        if (bytes.size() > kHeadMax) return not_http("its header is too long");
        return std::optional<HttpHead>{};
    }
    HttpHead head;
    head.size = end + 4;
    auto rest = bytes.substr(0, end + 2);
    const auto line = rest.substr(0, rest.find("\r\n"));
    const auto status = line.size() >= 12 ? parse_number(line.substr(9, 3)) : std::nullopt;
    if (!line.starts_with("HTTP/1.") || !status) return not_http("it has no HTTP status line");
    head.status = static_cast<int>(*status);
    rest.remove_prefix(line.size() + 2);
    while (!rest.empty()) {
        const auto field = rest.substr(0, rest.find("\r\n"));
        rest.remove_prefix(field.size() + 2);
        const auto colon = field.find(':');
        if (colon == std::string_view::npos) return not_http("it has a broken header");
        const auto name = field.substr(0, colon);
        if (same_name(name, "Transfer-Encoding")) return not_http("it is sent in chunks");
        if (!same_name(name, "Content-Length")) continue;
        head.length = parse_number(trim(field.substr(colon + 1)));
        if (!head.length) return not_http("it has a broken Content-Length");
    }
    return std::optional<HttpHead>(head);
}

}  // namespace opsrelay::cli
