#include "operate/desk.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "core/json_text.h"
#include "core/log.h"
#include "operate/dead_json.h"
#include "operate/refusal.h"

namespace opsrelay::operate {

namespace {

using control::AdminResponse;
using spool::DeadKey;
using spool::DeadLetter;

// What reception added to a kept event must not make it too large to come back.
constexpr Bytes kAdded{16U << 10U};
// A client takes replies of 4 MiB; JSON escapes may make six bytes of one.
constexpr Bytes kPageBytes{512U << 10U};

std::string next_text(const std::optional<DeadKey>& after) {
    return after ? json_string(to_text(*after)) : "null";
}

// The key before the one to go on from: `after` leaves out what it names.
std::optional<DeadKey> before(std::optional<DeadKey> next) {
    if (next) --next->number;
    return next;
}

parse::Options with_room(parse::Options events) {
    events.event_bytes_max += kAdded;
    return events;
}

/// A letter that was not put back, and why.
struct Refused {
    DeadKey key;
    std::string reason;
    std::string message;
};

std::string to_json(const AsOf& as_of) {
    std::string lanes;
    for (const auto& [name, end] : as_of.lanes) {
        lanes += fmt::format("{}{}:{}", lanes.empty() ? "" : ",", json_string(name), end);
    }
    return fmt::format(R"({{"admission":{},"lanes":{{{}}}}})", as_of.admission, lanes);
}

std::string to_json(const std::vector<Refused>& refused) {
    std::string out = "[";
    for (const auto& one : refused) {
        if (out.size() > 1) out += ',';
        out +=
            fmt::format(R"({{"key":{},"reason":{},"message":{}}})", json_string(to_text(one.key)),
                        json_string(one.reason), json_string(one.message));
    }
    return out + "]";
}

}  // namespace

Desk::Desk(spool::Store& store, spool::Settler& settler, Rng& rng, const parse::Options& events,
           DeskHooks hooks)
    : store_(store),
      settler_(settler),
      rng_(rng),
      parser_(std::in_place, with_room(events), rng),
      hooks_(std::move(hooks)) {}

void Desk::configure(const parse::Options& events) { parser_.emplace(with_room(events), rng_); }

AdminResponse Desk::answer(std::string_view path, std::string_view body) {
    struct Route {
        std::string_view path;
        AdminResponse (Desk::*answer)(const Request&);
    };
    constexpr std::array<Route, 9> kRoutes{{{"/dead/list", &Desk::list},
                                            {"/dead/show", &Desk::show},
                                            {"/dead/replay", &Desk::replay},
                                            {"/dead/purge", &Desk::purge},
                                            {"/spool/purge", &Desk::purge_lane},
                                            {"/lanes/pause", &Desk::pause},
                                            {"/lanes/resume", &Desk::resume},
                                            {"/lanes/flush", &Desk::flush},
                                            {"/lanes/left", &Desk::left}}};
    for (const auto& route : kRoutes) {
        if (route.path != path) continue;
        const auto request = parse_request(body);
        return request ? (this->*route.answer)(*request) : refusal(request.error());
    }
    return refusal(404, "not_found", fmt::format("nothing takes a POST at {}", path));
}

Result<Desk::Chosen> Desk::choose_page(const Request& request) {
    spool::DeadQuery query;
    query.letters_max = request.limit;
    query.bytes_max = kPageBytes;
    query.filter.kind = request.kind;
    query.filter.reason = request.reason;
    if (request.as_of) query.filter.within = ends_of(*request.as_of);
    if (!request.lane.empty()) {
        query.filter.lane = find_lane(request.lane);
        if (!query.filter.lane) {
            return Error{Errc::config_invalid,
                         fmt::format("lane {} is not in this spool", request.lane)};
        }
    }
    if (request.after) {
        query.from = *request.after;
        ++query.from.number;
    }
    auto page = store_.read_dead(query);
    if (!page) return page.error();
    return Chosen{std::move(page->letters), {}, before(page->next), page->damaged};
}

Result<Desk::Chosen> Desk::choose(const Request& request) {
    if (request.all == !request.keys.empty()) {
        return Error{Errc::config_invalid, "give either keys, or all with true"};
    }
    if (request.all) return choose_page(request);
    const bool filters = request.kind || !request.lane.empty() || !request.reason.empty();
    if (filters || request.after) {
        return Error{Errc::config_invalid, "filters go with all, not with keys"};
    }
    Chosen chosen;
    for (const auto& key : request.keys) {
        auto page = store_.read_dead({.from = key, .letters_max = 1, .looked_at_max = 1});
        if (!page) return page.error();
        if (page->letters.empty() || key_of(page->letters[0]) != key) {
            chosen.unknown.push_back(key);
        } else {
            chosen.letters.push_back(std::move(page->letters[0]));
        }
    }
    return chosen;
}

AsOf Desk::as_of(const Request& request) const {
    if (request.as_of) return *request.as_of;
    const auto ends = store_.dead_ends();
    AsOf now{ends.admission, {}};
    const auto names = lane_names();
    for (const auto& [lane, end] : ends.lanes) now.lanes.emplace_back(name_of(lane, names), end);
    return now;
}

spool::DeadEnds Desk::ends_of(const AsOf& as_of) const {
    spool::DeadEnds ends{.admission = as_of.admission};
    const auto names = lane_names();
    for (const auto& [lane, end] : store_.dead_ends().lanes) {
        const auto is_it = [name = name_of(lane, names)](const auto& one) {
            return one.first == name;
        };
        const auto found = std::find_if(as_of.lanes.begin(), as_of.lanes.end(), is_it);
        if (found != as_of.lanes.end()) ends.lanes.emplace(lane, found->second);
    }
    return ends;
}

AdminResponse Desk::list(const Request& request) {
    const auto page = choose_page(request);
    if (!page) return refusal(page.error());
    AdminResponse response;
    response.body = R"({"ok":true,"letters":[)";
    const auto names = lane_names();
    for (const auto& letter : page->letters) {
        if (response.body.back() != '[') response.body += ',';
        response.body += to_json(letter, name_of(letter.lane, names), request.events);
    }
    response.body += fmt::format(R"(],"next":{},"as_of":{},"damaged":{}}})", next_text(page->last),
                                 to_json(as_of(request)), page->damaged);
    return response;
}

AdminResponse Desk::show(const Request& request) {
    if (request.keys.size() != 1) return refusal(400, "bad_request", "keys must be one key");
    const auto chosen = choose(request);
    if (!chosen) return refusal(chosen.error());
    if (chosen->letters.empty()) {
        return refusal(404, "not_found",
                       fmt::format("there is no dead letter {}", to_text(request.keys[0])));
    }
    const auto& letter = chosen->letters[0];
    return {.body = fmt::format(R"({{"ok":true,"letter":{}}})",
                                to_json(letter, name_of(letter.lane, lane_names()), true))};
}

Result<std::string> Desk::revive(const DeadLetter& letter, const std::vector<FieldEdit>& edits) {
    if (letter.payload.empty()) {
        return Error{Errc::refused, "its event was not kept, so it cannot be sent"};
    }
    if (edits.empty() && letter.kind == spool::DeadKind::upstream) return std::string{};  // as kept
    auto event = set_fields(letter.payload, edits);
    if (!event) return event;
    const WallTime received{milliseconds{letter.unix_ms}};
    if (parser_->parse(*event, received)) return std::string(parser_->event().json);
    const auto& rejection = parser_->rejection();
    const auto colon = rejection.field.empty() ? "" : ": ";
    return Error{Errc::refused, fmt::format("{}: {}{}{}", to_string(rejection.reason),
                                            rejection.field, colon, rejection.message)};
}

AdminResponse Desk::replay(const Request& request) {
    auto bounded = request;
    bounded.as_of = as_of(request);  // what is refused again meanwhile is not put back again
    const auto chosen = choose(bounded);
    if (!chosen) return refusal(chosen.error());
    std::vector<Refused> refused;
    for (const auto& key : chosen->unknown) refused.push_back({key, "not_found", "no such letter"});
    std::map<LaneId, std::vector<spool::Revival>> by_lane;
    for (const auto& letter : chosen->letters) {
        auto event = revive(letter, request.set);
        if (event) {
            by_lane[letter.lane].push_back({key_of(letter), std::move(*event)});
        } else {
            const bool kept = !letter.payload.empty();
            refused.push_back(
                {key_of(letter), kept ? "invalid" : "no_event", std::move(event.error().context)});
        }
    }
    std::uint64_t replayed = 0;
    for (const auto& [lane, letters] : by_lane) {
        const auto done = settler_.replay_here(lane, letters);
        if (!done) {
            return refusal(with_prefix(done.error(), fmt::format("{} put back, then", replayed)));
        }
        replayed += *done;
        hooks_.replayed(lane);
    }
    if (replayed > 0) log::info("control", "dead letters put back", {{"letters", replayed}});
    return {.body = fmt::format(R"({{"ok":true,"replayed":{},"next":{},"as_of":{},"refused":{}}})",
                                replayed, next_text(chosen->last), to_json(*bounded.as_of),
                                to_json(refused))};
}

AdminResponse Desk::purge(const Request& request) {
    const auto chosen = choose(request);
    if (!chosen) return refusal(chosen.error());
    auto keys = request.keys;  // also of letters that cannot be read any more
    if (request.all) {
        for (const auto& letter : chosen->letters) keys.push_back(key_of(letter));
    }
    const auto purged = settler_.purge_dead(keys);
    if (!purged) return refusal(purged.error());
    if (*purged > 0) log::warn("control", "dead letters purged", {{"letters", *purged}});
    return {.body = fmt::format(R"({{"ok":true,"purged":{},"next":{},"as_of":{}}})", *purged,
                                next_text(chosen->last), to_json(as_of(request)))};
}

}  // namespace opsrelay::operate
