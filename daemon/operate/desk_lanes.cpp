// What an operator does to whole lanes.
#include <fmt/format.h>

#include "core/json_text.h"
#include "core/log.h"
#include "operate/desk.h"
#include "operate/refusal.h"

namespace opsrelay::operate {

using control::AdminResponse;

std::map<LaneId, std::string> Desk::lane_names() const {
    std::map<LaneId, std::string> names;
    for (const auto& state : store_.lanes()) names.emplace(state.lane, state.name);
    return names;
}

std::string Desk::name_of(LaneId lane, const std::map<LaneId, std::string>& names) {
    const auto found = names.find(lane);
    if (found != names.end()) return found->second;
    return fmt::format("lane-{}", static_cast<std::uint16_t>(lane));
}

std::optional<LaneId> Desk::find_lane(std::string_view name) const {
    for (const auto& [lane, its_name] : lane_names()) {
        if (its_name == name) return lane;
    }
    return std::nullopt;
}

AdminResponse Desk::no_such_lane(std::string_view name) const {
    std::string known;
    for (const auto& [id, its_name] : lane_names()) {
        known += fmt::format("{}{}", known.empty() ? "" : ", ", its_name);
    }
    return refusal(404, "not_found",
                   fmt::format("lane \"{}\" is not in this spool; it has: {}", name, known));
}

Result<std::vector<LaneName>> Desk::chosen_lanes(const Request& request) const {
    std::vector<LaneName> chosen;
    for (const auto& [lane, name] : lane_names()) {
        const bool wanted = request.lane.empty() ? hooks_.configured(lane) : name == request.lane;
        if (wanted) chosen.push_back({lane, name});
    }
    // Without a daemon the configuration at hand need not be the spool's.
    if (hooks_.sending && chosen.size() == 1 && !hooks_.configured(chosen[0].lane)) {
        return Error{Errc::refused,
                     fmt::format("lane {} is not configured: nothing is sent from it; configure it "
                                 "again, or end its records with opsrelay spool purge --lane",
                                 request.lane)};
    }
    return chosen;
}

AdminResponse Desk::set_paused(const Request& request, bool paused) {
    const auto lanes = chosen_lanes(request);
    if (!lanes) return refusal(409, "not_configured", lanes.error().context);
    if (lanes->empty()) return no_such_lane(request.lane);
    std::string names;
    for (const auto& lane : *lanes) {
        // Durable before anybody is told: a restart must not undo it.
        const auto done = settler_.set_paused(lane.lane, paused);
        if (!done) return refusal(with_prefix(done.error(), fmt::format("lane {}", lane.name)));
        hooks_.paused(lane.lane, paused);
        names += fmt::format("{}{}", names.empty() ? "" : ",", json_string(lane.name));
    }
    return {.body = fmt::format(R"({{"ok":true,"lanes":[{}]}})", names)};
}

AdminResponse Desk::pause(const Request& request) { return set_paused(request, true); }

AdminResponse Desk::resume(const Request& request) { return set_paused(request, false); }

// Nothing is sent from them, yet what they hold has no outcome.
std::string Desk::ends_of_removed(bool first) const {
    std::string ends;
    for (const auto& [lane, name] : lane_names()) {
        const auto end = settler_.end(lane);
        if (hooks_.configured(lane) || settler_.left_below(lane, end).records == 0) continue;
        ends += fmt::format("{}{}:{}", first ? "" : ",", json_string(name), end);
        first = false;
    }
    return ends;
}

AdminResponse Desk::flush(const Request& request) {
    const auto lanes = chosen_lanes(request);
    if (!lanes) return refusal(409, "not_configured", lanes.error().context);
    if (lanes->empty()) return no_such_lane(request.lane);
    std::string ends;
    for (const auto& lane : *lanes) {
        hooks_.flush(lane.lane);
        ends += fmt::format("{}{}:{}", ends.empty() ? "" : ",", json_string(lane.name),
                            settler_.end(lane.lane));
    }
    if (request.lane.empty()) ends += ends_of_removed(ends.empty());
    return {.body = fmt::format(R"({{"ok":true,"ends":{{{}}}}})", ends)};
}

AdminResponse Desk::left(const Request& request) {
    if (request.ends.empty()) {
        return refusal(400, "bad_request", "ends must name a lane, as /lanes/flush said it");
    }
    std::string left;
    std::string resting;
    for (const auto& [name, end] : request.ends) {
        const auto lane = find_lane(name);
        if (!lane) return no_such_lane(name);
        const auto below = settler_.left_below(*lane, end);
        const auto* const comma = left.empty() ? "" : ",";
        const auto key = json_string(name);
        left += fmt::format("{}{}:{}", comma, key, below.records);
        resting += fmt::format("{}{}:{}", comma, key, below.resting);
    }
    return {.body = fmt::format(R"({{"ok":true,"left":{{{}}},"resting":{{{}}}}})", left, resting)};
}

AdminResponse Desk::purge_lane(const Request& request) {
    const auto lane = find_lane(request.lane);
    if (!lane) return no_such_lane(request.lane);
    if (hooks_.configured(*lane)) {
        if (hooks_.sending) {
            return refusal(409, "lane_configured",
                           fmt::format("lane {} is configured and its records are being sent; stop "
                                       "the daemon first, then purge with --configured",
                                       request.lane));
        }
        if (!request.configured) {
            return refusal(409, "lane_configured",
                           fmt::format("lane {} is configured; add --configured to give up its "
                                       "records all the same",
                                       request.lane));
        }
    }
    const auto purged = settler_.purge_lane(*lane);
    if (!purged) return refusal(purged.error());
    log::warn("control", "records of a lane purged",
              {{"lane", request.lane}, {"records", *purged}});
    return {.body = fmt::format(R"({{"ok":true,"purged":{}}})", *purged)};
}

}  // namespace opsrelay::operate
