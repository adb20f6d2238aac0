// Where an operator's changes to the spool are made: dead letters, and the records of lanes that
// are not configured. The daemon puts it behind admin.sock; commands use it on a spool that no
// daemon has open. One request is bounded: a page, one batch for each lane in it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/admin_server.h"
#include "core/error.h"
#include "core/random.h"
#include "operate/request.h"
#include "parse/event_parser.h"
#include "spool/settler.h"
#include "spool/store.h"

namespace opsrelay::operate {

/// What the desk must know about the rest. Called on the storage thread.
struct DeskHooks {
    /// Whether the lane is in the configuration.
    std::function<bool(LaneId)> configured;
    /// Whether records of configured lanes are being sent.
    bool sending = false;
    /// Records were put into this lane.
    std::function<void(LaneId)> replayed;
    /// The lane was paused, or goes on.
    std::function<void(LaneId, bool)> paused;
    /// The lane's own wait is to end now, and that of its deferred records: known to the settler
    /// when it returns.
    std::function<void(LaneId)> flush;
};

/// Paths, their fields (operate/request.h) and replies; every reply has `ok`:
///   /dead/list    filters, after, limit, as_of, events -> {letters: [...], next: key|null, as_of,
///                 damaged}. Filters that match little give short pages: go on while next is a key.
///   /dead/show    keys (one) -> {letter}; 404 when there is none
///   /dead/replay  keys, or all with filters, after, as_of; set -> {replayed, next, as_of,
///                 refused: [{key, reason, message}]}. What is changed by `set`, or was rejected at
///                 admission, passes the parser's rules again; what does not stays a dead letter.
///   /dead/purge   keys, or all with filters, after, as_of -> {purged, next, as_of}
///   /lanes/pause, /lanes/resume  lane, else all that are configured -> {lanes: [name]}; durable
///                 when the reply comes
///   /lanes/flush  lane, else all that are configured or hold something -> {ends: {name: number}}:
///                 what was accepted before has numbers below; each that is configured tries at
///                 once, unless upstream asked it to wait
///   /lanes/left   ends -> {left: {name: records below it without an outcome}, resting: {name: of
///                 these, deferred ones that were tried since /lanes/flush or came after it}}
///   /spool/purge  lane, configured -> {purged}; 404 unknown, 409 while it is configured
/// `as_of`: of an earlier reply; letters that came later are left alone.
/// 400: a request that is not understood. 503: the spool refuses, with its error's code and text.
/// Thread: storage.
class Desk {
public:
    /// `rng` makes ids for events that have none.
    Desk(spool::Store& store, spool::Settler& settler, Rng& rng, const parse::Options& events,
         DeskHooks hooks);
    Desk(const Desk&) = delete;
    Desk& operator=(const Desk&) = delete;

    /// What an operator chose anew.
    void configure(const parse::Options& events);

    /// Status 404 for a path it does not know.
    [[nodiscard]] control::AdminResponse answer(std::string_view path, std::string_view body);

private:
    using Response = control::AdminResponse;
    /// Letters a request is about, and where the next page begins.
    struct Chosen {
        std::vector<spool::DeadLetter> letters;
        std::vector<spool::DeadKey> unknown;
        std::optional<spool::DeadKey> last;  // the last one looked at when there are more
        std::uint64_t damaged = 0;
    };
    [[nodiscard]] Result<Chosen> choose(const Request& request);
    [[nodiscard]] Result<Chosen> choose_page(const Request& request);
    [[nodiscard]] AsOf as_of(const Request& request) const;
    [[nodiscard]] spool::DeadEnds ends_of(const AsOf& as_of) const;
    [[nodiscard]] Response list(const Request& request);
    [[nodiscard]] Response show(const Request& request);
    [[nodiscard]] Response replay(const Request& request);
    [[nodiscard]] Response purge(const Request& request);
    [[nodiscard]] Response purge_lane(const Request& request);
    [[nodiscard]] Response pause(const Request& request);
    [[nodiscard]] Response resume(const Request& request);
    [[nodiscard]] Response set_paused(const Request& request, bool paused);
    [[nodiscard]] Response flush(const Request& request);
    [[nodiscard]] std::string ends_of_removed(bool first) const;
    [[nodiscard]] Response left(const Request& request);
    /// Empty: there is none of this name. Error: it is not configured, though a daemon sends.
    [[nodiscard]] Result<std::vector<LaneName>> chosen_lanes(const Request& request) const;
    [[nodiscard]] Response no_such_lane(std::string_view name) const;
    /// The event to put back; an error says why there is none.
    [[nodiscard]] Result<std::string> revive(const spool::DeadLetter& letter,
                                             const std::vector<FieldEdit>& edits);
    [[nodiscard]] std::map<LaneId, std::string> lane_names() const;
    [[nodiscard]] static std::string name_of(LaneId lane,
                                             const std::map<LaneId, std::string>& names);
    [[nodiscard]] std::optional<LaneId> find_lane(std::string_view name) const;

    spool::Store& store_;
    spool::Settler& settler_;
    Rng& rng_;
    std::optional<parse::EventParser> parser_;
    DeskHooks hooks_;
};

}  // namespace opsrelay::operate
