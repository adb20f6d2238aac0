#include "cli/tail_text.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include "cli/json_fields.h"

namespace opsrelay::cli {

namespace {

constexpr std::size_t kOutcomeWidth = 9;

std::string painted(const std::string& outcome, const Paint& paint) {
    const auto padded = fmt::format("{:<{}}", outcome, kOutcomeWidth);
    if (outcome == "delivered") return paint.good(padded);
    if (outcome == "dead" || outcome == "dropped" || outcome == "rejected") {
        return paint.bad(padded);
    }
    return outcome == "accepted" ? padded : paint.odd(padded);
}

}  // namespace

std::optional<TailLine> read_tail_line(std::string_view json, bool chosen, const Paint& paint) {
    rapidjson::Document line;
    line.Parse(json.data(), json.size());
    if (line.HasParseError() || !line.IsObject()) return std::nullopt;
    if (const auto hidden = count(line, "not_shown"); hidden != 0) {
        return TailLine{
            paint.odd(fmt::format("{} not shown{}: too many at once, or read too slowly", hidden,
                                  chosen ? ", of all lanes and kinds" : "")),
            false};
    }
    const auto outcome = text(line, "outcome");
    if (outcome.empty()) return std::nullopt;
    const auto lane = text(line, "lane");
    const auto at = text(line, "at");  // 2026-01-02T03:04:05.678Z
    TailLine made{fmt::format("{} {} {}", at.size() > 12 ? at.substr(11, 12) : at,
                              painted(outcome, paint), lane.empty() ? "-" : lane),
                  true};
    if (member(line, "events") != nullptr) {
        made.text += fmt::format(" {} events", count(line, "events"));
    }
    if (const auto id = text(line, "id"); !id.empty()) made.text += fmt::format(" {}", id);
    const auto provider = text(line, "provider");
    const auto model = text(line, "model");
    if (!provider.empty() || !model.empty()) made.text += fmt::format(" {}/{}", provider, model);
    if (member(line, "total_tokens") != nullptr) {
        made.text += fmt::format(" {}+{}={} tokens", count(line, "input_tokens"),
                                 count(line, "output_tokens"), count(line, "total_tokens"));
    }
    if (const auto status = text(line, "status"); !status.empty()) {
        made.text += fmt::format(" {}", status);
    }
    if (const auto reason = text(line, "reason"); !reason.empty()) {
        made.text += fmt::format(" ({})", reason);
    }
    return made;
}

}  // namespace opsrelay::cli
