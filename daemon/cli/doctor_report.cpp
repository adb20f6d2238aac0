#include "cli/doctor_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/status_text.h"
#include "core/json_text.h"

namespace opsrelay::cli {

namespace {

std::ptrdiff_t how_many(const Findings& findings, Health health) {
    return std::count_if(findings.begin(), findings.end(),
                         [health](const Finding& one) { return one.health == health; });
}

std::string name_of(const Finding& finding) {
    return finding.lane.empty() ? finding.check
                                : fmt::format("{} ({})", finding.check, finding.lane);
}

std::string painted(Health health, const Paint& paint) {
    const auto word = fmt::format("{:<4}", to_string(health));
    switch (health) {
        case Health::ok: return paint.good(word);
        case Health::warn: return paint.odd(word);
        case Health::fail: break;
    }
    return paint.bad(word);
}

std::string json_or_null(const std::string& text) {
    return text.empty() ? "null" : json_string(text);
}

}  // namespace

bool any_failed(const Findings& findings) { return how_many(findings, Health::fail) != 0; }

std::string findings_text(const Findings& findings, const Paint& paint) {
    std::string out;
    std::size_t width = 0;
    for (const auto& finding : findings) width = std::max(width, name_of(finding).size());
    for (const auto& finding : findings) {
        out += fmt::format("{}  {:<{}}  {}\n", painted(finding.health, paint), name_of(finding),
                           width, printable(finding.detail));
        if (finding.remedy.empty()) continue;
        out += fmt::format("      {:<{}}  next: {}\n", "", width, printable(finding.remedy));
    }
    out += fmt::format("\n{} ok, {} to look at, {} failed\n", how_many(findings, Health::ok),
                       how_many(findings, Health::warn), how_many(findings, Health::fail));
    return out;
}

std::string findings_json(const Findings& findings) {
    std::string checks;
    for (const auto& finding : findings) {
        checks += fmt::format(R"({}{{"check":{},"lane":{},"result":"{}","detail":{},"remedy":{}}})",
                              checks.empty() ? "" : ",", json_string(finding.check),
                              json_or_null(finding.lane), to_string(finding.health),
                              json_string(finding.detail), json_or_null(finding.remedy));
    }
    return fmt::format("{{\"ok\":{},\"checks\":[{}]}}\n", !any_failed(findings), checks);
}

}  // namespace opsrelay::cli
