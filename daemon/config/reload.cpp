#include "config/reload.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/event_rules.h"
#include "config/fields.h"
#include "config/keys.h"
#include "config/lanes.h"
#include "config/upstream_keys.h"
#include "spool/disk_plan.h"

namespace opsrelay::config {

namespace {

using listen::ListenerOptions;

// What a reload gives to listeners that stay as they are.
constexpr std::array<std::string_view, 2> kLiveListenerKeys{"lane", "defaults"};

/// A key of a listener that needs a restart.
struct PlaceKey {
    std::string_view name;
    bool (*same)(const ListenerOptions& a, const ListenerOptions& b);
};

template <auto Member>
bool same(const ListenerOptions& a, const ListenerOptions& b) {
    return a.*Member == b.*Member;
}

constexpr std::array<PlaceKey, 10> kPlaceKeys{{
    {"type", same<&ListenerOptions::kind>},
    {"path", same<&ListenerOptions::path>},
    {"address",
     [](const ListenerOptions& a, const ListenerOptions& b) {
         return a.address == b.address && a.port == b.port;
     }},
    {"mode", same<&ListenerOptions::mode>},
    {"group", same<&ListenerOptions::group>},
    {"allow_remote", same<&ListenerOptions::allow_remote>},
    {"token_file", same<&ListenerOptions::token_file>},
    {"allow_uids", same<&ListenerOptions::allow_uids>},
    {"allow_gids", same<&ListenerOptions::allow_gids>},
    {"rate_limit", same<&ListenerOptions::rate_limit>},
}};

bool same_place(const ListenerOptions& a, const ListenerOptions& b) {
    return std::all_of(kPlaceKeys.begin(), kPlaceKeys.end(),
                       [&](const PlaceKey& key) { return key.same(a, b); });
}

// The same ones in another order: no key of one has changed.
bool reordered(const std::vector<ListenerOptions>& a, const std::vector<ListenerOptions>& b) {
    return !std::equal(a.begin(), a.end(), b.begin(), same_place) &&
           std::is_permutation(a.begin(), a.end(), b.begin(), same_place);
}

std::string defaults_of(const Config& config, const ListenerOptions& listener) {
    if (listener.defaults == 0) return {};
    return show_defaults(config.events.defaults.at(listener.defaults - 1U));
}

// The password of a proxy is not shown.
bool differs(const UpstreamKey& key, const forward::Options& a, const forward::Options& b) {
    return key.show(a) != key.show(b) || (key.short_name() == "proxy" && a.proxy != b.proxy);
}

/// What was found so far.
struct Found {
    std::vector<std::string> changed;
    std::vector<std::string> need_restart;
};

void compare_lanes(const Config& running, const Config& next, Found& found) {
    for (const auto& [name, upstream] : running.lanes) {
        const auto now = next.lanes.find(name);
        if (now == next.lanes.end()) {
            found.changed.push_back(fmt::format("lanes.{}", name));
            continue;
        }
        for (const auto& key : upstream_keys()) {
            if (!differs(key, upstream, now->second)) continue;
            found.changed.push_back(lane_key(name, key.short_name()));
        }
    }
    for (const auto& [name, upstream] : next.lanes) {
        if (!running.lanes.contains(name)) found.changed.push_back(fmt::format("lanes.{}", name));
    }
}

void compare_listeners(const Config& running, const Config& next, Found& found) {
    const auto& before = running.listen.listeners;
    const auto& after = next.listen.listeners;
    if (before.size() != after.size() || reordered(before, after)) {
        found.need_restart.emplace_back("listeners");
        return;
    }
    for (std::size_t i = 0; i < before.size(); ++i) {
        for (const auto& key : kPlaceKeys) {
            if (key.same(before[i], after[i])) continue;
            found.need_restart.push_back(fmt::format("listeners[{}].{}", i, key.name));
        }
        if (before[i].lane.name != after[i].lane.name) {
            found.changed.push_back(fmt::format("listeners[{}].lane", i));
        }
        if (defaults_of(running, before[i]) != defaults_of(next, after[i])) {
            found.changed.push_back(fmt::format("listeners[{}].defaults", i));
        }
    }
}

}  // namespace

bool is_live_listener_key(std::string_view name) {
    return std::find(kLiveListenerKeys.begin(), kLiveListenerKeys.end(), name) !=
           kLiveListenerKeys.end();
}

bool same_upstream(const forward::Options& a, const forward::Options& b) {
    const auto keys = upstream_keys();
    return a.api_key == b.api_key &&
           std::all_of(keys.begin(), keys.end(),
                       [&](const UpstreamKey& key) { return !differs(key, a, b); });
}

Result<std::vector<std::string>> changed_keys(const Config& running, const Config& next) {
    Found found;
    compare_lanes(running, next, found);
    for (const auto& key : keys()) {
        if (key.upstream != nullptr || key.show(running) == key.show(next)) continue;
        auto& into = key.change == Change::live ? found.changed : found.need_restart;
        into.emplace_back(key.name);
    }
    compare_listeners(running, next, found);
    if (!found.need_restart.empty()) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: changed, which a reload cannot do; restart needed",
                                 fmt::join(found.need_restart, ", "))};
    }
    // How many ids are remembered follows from the size of the spool, and is settled at start.
    const auto ids = spool::plan_disk(next.spool).ids;
    if (const auto now = spool::plan_disk(running.spool).ids; ids != now) {
        return Error{
            Errc::config_invalid,
            fmt::format("spool.max_bytes: {} instead of {} changes how many ids are "
                        "remembered ({} instead of {}); restart needed",
                        format_bytes(next.spool.bytes_max), format_bytes(running.spool.bytes_max),
                        spool::plan_disk(next.spool).ids, spool::plan_disk(running.spool).ids)};
    }
    return found.changed;
}

}  // namespace opsrelay::config
