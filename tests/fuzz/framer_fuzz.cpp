// A stream cut into lines: the same lines however it arrives; and lines that speak to opsrelay.
#include <rapidjson/document.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/assert.h"
#include "fuzz/fuzz.h"
#include "listen/control_line.h"
#include "listen/line_framer.h"

namespace opsrelay::fuzz {

namespace {

constexpr std::size_t kLineMax = 64;

// Lines in order; of one that is too long it only matters that it was.
std::vector<std::string> lines_of(std::string_view bytes, std::size_t chunk) {
    listen::LineFramer framer(kLineMax);
    std::vector<std::string> lines;
    const auto take = [&lines](const listen::Message& line) {
        OPSRELAY_ASSERT(line.oversize || line.bytes.size() <= kLineMax);
        OPSRELAY_ASSERT(line.bytes.find('\n') == std::string_view::npos);
        lines.push_back(line.oversize ? "\n" : std::string(line.bytes));
    };
    for (std::size_t at = 0; at < bytes.size(); at += chunk) {
        // A copy, which dies when the framer has used it up.
        const std::string part(bytes.substr(at, chunk));
        framer.feed(part);
        while (const auto line = framer.next()) take(*line);
        OPSRELAY_ASSERT(framer.held_bytes() <= 4 * kLineMax + 64);
    }
    if (const auto line = framer.finish()) take(*line);
    OPSRELAY_ASSERT(!framer.finish());
    return lines;
}

// A line is for opsrelay only when it is {"opsrelay":{...}} to any JSON reader.
void check_control(const std::string& line) {
    if (!listen::parse_control_line(line)) return;
    rapidjson::Document document;
    document.Parse(line.data(), line.size());
    OPSRELAY_ASSERT(!document.HasParseError());
    OPSRELAY_ASSERT(document.IsObject());
    OPSRELAY_ASSERT(document.MemberCount() == 1);
    OPSRELAY_ASSERT(document.HasMember("opsrelay"));
    OPSRELAY_ASSERT(document["opsrelay"].IsObject());
}

}  // namespace

void one_input(std::string_view input) {
    const auto [choice, bytes] = choose(input, 251);
    const auto whole = lines_of(bytes, std::max<std::size_t>(bytes.size(), 1));
    OPSRELAY_ASSERT(whole == lines_of(bytes, choice + 1));
    OPSRELAY_ASSERT(whole == lines_of(bytes, 1));
    for (const auto& line : whole) check_control(line);
    check_control(std::string(bytes));
}

}  // namespace opsrelay::fuzz
