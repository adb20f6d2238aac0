// What happens to whole lanes: they leave the configuration and come back, with a restart and
// without, are paused and purged.
#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <string>
#include <vector>

#include "sim/sim_world.h"

namespace opsrelay::sim {

namespace {

asio::awaitable<void> reconfigure(Pipeline& pipeline, Pipeline::Lane lane, bool configured,
                                  TimePoint deadline, bool& done) {
    const auto id = lane.name.lane;
    if (configured) {
        co_await pipeline.add_lane(std::move(lane));
        pipeline.pump(id).set_key("key");
    } else {
        co_await pipeline.remove_lane(id, deadline);
    }
    done = true;
}

}  // namespace

std::size_t SimWorld::some_side() {
    const auto side = rng_.between(0, sides_.size() - 1);
    return sides_[side].configured ? side : 0;
}

void SimWorld::change_lanes() {
    for (std::size_t i = 1; i < sides_.size(); ++i) {
        auto& side = sides_[i];
        if (!rng_.chance(500)) continue;
        side.configured = !side.configured;
        const auto waits = !store_->unsettled(side.name.lane).empty();
        if (waits) mark(side.configured ? Mark::lane_came_back : Mark::lane_left_with_records);
    }
    restart_cleanly();
}

// As a reload does it: the process goes on, and so do the other lanes.
void SimWorld::change_lanes_live() {
    if (store_failed_) return;
    for (std::size_t i = 1; i < sides_.size(); ++i) {
        auto& side = sides_[i];
        if (!rng_.chance(500)) continue;
        side.configured = !side.configured;
        mark(side.configured ? Mark::lane_added_live : Mark::lane_removed_live);
        bool done = false;
        forward::Options forward;
        forward.max_age = spool_options_.max_age;
        asio::co_spawn(threads_[2],
                       reconfigure(*pipeline_, {side.name, forward, side.upstream, side.plan},
                                   side.configured, clock_.now() + milliseconds{2000}, done),
                       asio::detached);
        const auto end = clock_.now() + minutes{1};
        while (!done && clock_.now() < end) advance(milliseconds{50});
        if (!done) return violate("a lane does not change");
        // Requests that were cut off come again when it does.
        std::vector<std::string> ids;
        for (const auto& record : store_->unsettled(side.name.lane)) ids.push_back(id_of(record));
        side.upstream.note_restart(ids);
    }
}

void SimWorld::set_paused(bool paused, std::size_t side) {
    asio::post(threads_[1], [this, paused, lane = sides_[side].name.lane] {
        const auto done = pipeline_->settler().set_paused(lane, paused);
        if (done) pipeline_->note_paused(lane, paused);
    });
}

void SimWorld::pause_lanes() {
    if (stalled()) return;
    for (std::size_t i = 0; i < sides_.size(); ++i) set_paused(rng_.chance(500), i);
    advance(milliseconds{1});
}

void SimWorld::configure_all() {
    const auto all =
        std::all_of(sides_.begin(), sides_.end(), [](const Side& side) { return side.configured; });
    if (all) return;
    for (auto& side : sides_) side.configured = true;
    if (store_failed_) return;  // whoever starts the process again does it with all of them
    restart_cleanly();
}

void SimWorld::purge_lane() {
    const auto gone = std::find_if(sides_.begin(), sides_.end(),
                                   [](const Side& side) { return !side.configured; });
    if (gone == sides_.end() || stalled()) return;
    for (const auto& record : store_->unsettled(gone->name.lane)) {
        gone->given_up.insert(id_of(record));
    }
    asio::post(threads_[1], [this, lane = gone->name.lane] {
        const auto purged = pipeline_->settler().purge_lane(lane);
        if (purged && *purged > 0) mark(Mark::lane_purged);
    });
    advance(milliseconds{1});
}

}  // namespace opsrelay::sim
