// What must hold after every action, at every crash and at the end.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "sim/sim_world.h"

namespace opsrelay::sim {

namespace {

// The largest burst that a stream may still bring when the stall buffer has a little room.
constexpr Bytes kBurstBytesMax = 256_KiB;

asio::awaitable<void> fetch(Pipeline& pipeline, std::optional<Snapshot>& into) {
    into = co_await pipeline.snapshot();
}

std::optional<Mark> mark_of(forward::LaneState state) {
    switch (state) {
        case forward::LaneState::active: return std::nullopt;
        case forward::LaneState::backing_off: return Mark::lane_backing_off;
        case forward::LaneState::throttled: return Mark::lane_throttled;
        case forward::LaneState::plan_limited: return Mark::lane_plan_limited;
        case forward::LaneState::budget_stopped: return Mark::lane_budget_stopped;
        case forward::LaneState::unauthorized: return Mark::lane_unauthorized;
        case forward::LaneState::misconfigured: return Mark::lane_misconfigured;
        case forward::LaneState::no_key: return Mark::lane_no_key;
        case forward::LaneState::dead_full: return Mark::lane_dead_full;
        case forward::LaneState::paused: return Mark::lane_paused;
    }
    return std::nullopt;
}

}  // namespace

void SimWorld::acknowledge(const Told& told) {
    auto& side = sides_[told.side];
    if (side.acknowledged.insert(told.id).second) ++side.first_acks;
}

void SimWorld::collect_acks() {
    const auto durable = pipeline_->intake().durable_position();
    std::erase_if(waiting_, [&](const Told& told) {
        if (told.position > durable) return false;
        acknowledge(told);
        return true;
    });
}

// Nothing while the disk stalls: the storage thread cannot answer.
std::optional<Snapshot> SimWorld::snapshot() {
    if (stalled()) return std::nullopt;
    std::optional<Snapshot> view;
    asio::co_spawn(threads_[0], fetch(*pipeline_, view), asio::detached);
    while (!view && poll_one()) {
    }
    if (!view) violate("no snapshot");
    return view;
}

void SimWorld::check() {
    check_lanes();
    const auto held = pipeline_->queue().held();
    if (held > 64_KiB + kBurstBytesMax) {
        violate(fmt::format("{} bytes wait for the disk", held.count));
    }
    if (!pipeline_->queue().spool_open()) mark(Mark::intake_closed);
    if (store_->stats().disk > spool_options_.bytes_max) {
        violate(fmt::format("the spool takes {} bytes of {}", store_->stats().disk.count,
                            spool_options_.bytes_max.count));
    }
    const auto dead = store_->dead_usage();
    if (dead.letters > dead.letters_max || (dead.letters > 1 && dead.bytes > dead.bytes_max)) {
        violate(fmt::format("{} dead letters of {}, {} bytes of {}", dead.letters, dead.letters_max,
                            dead.bytes.count, dead.bytes_max.count));
    }
    const auto view = snapshot();
    if (!view) return;
    if (view->ledger.imbalance() != 0) violate("ledger: " + view->ledger.to_json());
    if (view->ledger.storage.dead > 0) mark(Mark::dead_letter);
    if (view->ledger.storage.replayed > 0) mark(Mark::replayed);
    mark_ids();
}

void SimWorld::mark_ids() {
    const auto counted = [this](const observe::Metric& metric, std::string_view label) {
        return registry_->counter(metric, label).value() > 0;
    };
    using spool::IdLookup;
    using spool::IdStep;
    if (counted(observe::kDedupeRuns, to_string(IdStep::sealed))) mark(Mark::ids_sealed);
    if (counted(observe::kDedupeRuns, to_string(IdStep::merged))) mark(Mark::ids_merged);
    if (counted(observe::kDedupeRuns, to_string(IdStep::expired))) mark(Mark::ids_expired);
    if (counted(observe::kDedupeLookups, to_string(IdLookup::absent))) mark(Mark::maybe_false);
    if (counted(observe::kDedupeLookups, to_string(IdLookup::found))) {
        mark(Mark::maybe_confirmed);
        if (process_ > 1) mark(Mark::confirmed_after_restart);
    }
}

void SimWorld::check_lanes() {
    for (auto& side : sides_) {
        const auto& upstream = side.upstream;
        if (!upstream.violation().empty()) {
            violate(fmt::format("{}: {}", side.name.name, upstream.violation()));
        }
        if (upstream.concurrency_max() > forward::Options{}.connections) {
            violate(fmt::format("{} requests at once", upstream.concurrency_max()));
        }
        // P1: numbers are contiguous, so the end counts what is durable.
        if (side.first_acks >= store_->durable_end(side.name.lane)) {
            violate(fmt::format("{}: {} events acknowledged, durable up to {}", side.name.name,
                                side.first_acks, store_->durable_end(side.name.lane)));
        }
        const auto stored = store_->lanes()[static_cast<std::size_t>(side.name.lane)];
        if (!stored.deferred.empty()) mark(Mark::deferred);
        if (!side.configured) continue;
        const auto status = pipeline_->pump(side.name.lane).status();
        if (const auto state = mark_of(status.state)) mark(*state);
    }
}

void SimWorld::check_kept(const test::MemStore& store, const char* when) {
    std::vector<std::set<std::string>> kept(sides_.size());
    for (std::size_t i = 0; i < sides_.size(); ++i) {
        for (const auto& record : store.unsettled(sides_[i].name.lane)) {
            kept[i].insert(id_of(record));
        }
    }
    for (const auto& letter : store.dead_letters()) {
        if (letter.kind != spool::DeadKind::upstream) continue;
        const auto lane = static_cast<std::size_t>(letter.lane);
        kept[lane].insert(letter.id);
        if (!sides_[lane].upstream.refused(letter.id)) {
            violate("a dead letter of an event that was never refused: " + letter.id);
        }
    }
    std::size_t missing = 0;
    for (std::size_t i = 0; i < sides_.size(); ++i) {
        for (const auto& id : sides_[i].acknowledged) {
            if (sides_[i].upstream.rows().contains(id) || kept[i].contains(id) ||
                sides_[i].given_up.contains(id)) {
                continue;
            }
            ++missing;
            if (!drops_) violate(fmt::format("{}: {}: acknowledged, and nowhere", when, id));
        }
    }
    missing_ = std::max(missing_, missing);
}

void SimWorld::check_dropped() {
    const auto view = snapshot();
    if (!view) return violate("the disk still stalls at the end of a process");
    const auto& dropped = view->ledger.storage.dropped;
    const auto oldest = dropped[index_of(DropReason::oldest)];
    const auto expired = dropped[index_of(DropReason::expired)];
    dropped_ += oldest + expired;
    if (oldest > 0) mark(Mark::dropped_oldest);
    if (expired > 0) mark(Mark::dropped_expired);
    if (missing_ > dropped_) {
        violate(
            fmt::format("{} acknowledged events are missing, {} were dropped", missing_, dropped_));
    }
}

void SimWorld::check_end() {
    check_kept(*store_, "at the end");
    const auto view = snapshot();
    if (!view) return violate("the disk still stalls");
    const auto& ledger = view->ledger;
    const bool resends = std::any_of(sides_.begin(), sides_.end(),
                                     [](const Side& side) { return !side.resend.empty(); });
    if (ledger.spooled == 0 && ledger.pending == 0 && !resends) return;
    std::string states;
    for (const auto& lane : pipeline_->lanes()) {
        states += fmt::format(" {}={}", lane.name, to_string(lane.state));
    }
    violate(
        fmt::format("not drained: {}, resends={}, lanes:{}", ledger.to_json(), resends, states));
}

}  // namespace opsrelay::sim
