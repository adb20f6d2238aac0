#include "sim/sim_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <utility>

namespace opsrelay::sim {

namespace {

constexpr int kActions = 120;
constexpr hours kDrainLimit{24 * 14};  // plan limits and Retry-After may hold the lane for days
constexpr int kStepsMax = 2'000'000;

// Bits of hazards_.
enum Hazard : std::uint32_t { power = 1, kills = 2, disk = 4, damage = 8, wall = 16, keys = 32 };

constexpr std::array<const char*, kMarks> kMarkNames{"power_loss",
                                                     "kill",
                                                     "clean_restart",
                                                     "unsynced_acks_lost",
                                                     "commit_refused",
                                                     "store_reopened",
                                                     "failed_commit_landed",
                                                     "store_gone",
                                                     "segment_damaged",
                                                     "wall_clock_jumped",
                                                     "duplicate",
                                                     "duplicate_before_durable",
                                                     "rejected",
                                                     "shed",
                                                     "dead_letter",
                                                     "replayed",
                                                     "key_changed",
                                                     "replay_refused",
                                                     "ids_sealed",
                                                     "ids_merged",
                                                     "ids_expired",
                                                     "maybe_confirmed",
                                                     "confirmed_after_restart",
                                                     "maybe_false",
                                                     "run_refused"};

asio::awaitable<void> fetch(Pipeline& pipeline, std::optional<Snapshot>& into) {
    into = co_await pipeline.snapshot();
}

asio::awaitable<void> stop_and_tell(Pipeline& pipeline, TimePoint deadline, bool& stopped) {
    co_await pipeline.stop(deadline, milliseconds{2000});
    stopped = true;
}

}  // namespace

std::string missing_marks(std::uint32_t marks) {
    std::string missing;
    for (std::size_t i = 0; i < kMarks; ++i) {
        if ((marks >> i & 1U) == 0) missing += fmt::format(" {}", kMarkNames.at(i));
    }
    return missing;
}

SimWorld::SimWorld(std::uint64_t seed)
    : seed_(seed),
      rng_(seed),
      intake_rng_(seed ^ 0x1111),
      forward_rng_(seed ^ 0x2222),
      upstream_rng_(seed ^ 0x3333),
      upstream_(clock_, upstream_rng_, static_cast<std::uint32_t>(rng_.next())),
      store_(std::make_unique<test::MemStore>(seed | 1U)),
      began_(clock_.now()) {
    hazards_ = static_cast<std::uint32_t>(rng_.next());
    // Small, so that runs are made, merged and forgotten.
    id_options_.window = rng_.between(milliseconds{minutes{20}}, milliseconds{hours{3}});
    id_options_.ids_max = rng_.between(std::uint64_t{200}, std::uint64_t{3000});
    id_options_.seal_ids = rng_.between(std::uint64_t{16}, std::uint64_t{64});
    id_options_.filter_bits = rng_.chance(200) ? 1 : 0;  // 1: every id has to be looked up
}

SimWorld::~SimWorld() {
    if (pipeline_) stop(false);
}

void SimWorld::start() {
    Pipeline::Options options;
    options.spool.stall_buffer = 64_KiB;  // small, so that it fills
    options.spool.ids = id_options_;
    options.intake.admit.table_ids = id_options_.seal_ids;
    ++starts_;
    options.lanes.push_back({.name = {}, .forward = {}, .upstream = upstream_, .plan = plan_});
    registry_ = std::make_unique<observe::Registry>();
    store_failed_ = false;
    const auto executor = io_.get_executor();
    pipeline_ = std::make_unique<Pipeline>(
        Executors{executor, executor, executor, executor}, clock_, intake_rng_, forward_rng_,
        *store_, options, *registry_, [this](const Error&) { store_failed_ = true; });
    if (const auto recovered = pipeline_->recover(); !recovered) {
        violate("recover: " + recovered.error().context);
    }
    pipeline_->start();
    asio::post(executor, [this] { pipeline_->pump().set_key("key"); });
    advance(milliseconds{1});
}

template <typename Done>
bool SimWorld::run_until(Done done, milliseconds limit) {
    const auto end = clock_.now() + limit;
    for (int step = 0; step < kStepsMax; ++step) {
        io_.restart();
        io_.poll();
        if (done()) return true;
        if (clock_.now() >= end || !clock_.step()) return done();
    }
    violate("the simulation does not come to rest");
    return false;
}

void SimWorld::stop(bool clean) {
    bool stopped = false;
    const bool refusing = store_->failures_pending();
    const auto deadline = clock_.now() + (clean ? milliseconds{2000} : milliseconds{0});
    asio::co_spawn(io_, stop_and_tell(*pipeline_, deadline, stopped), asio::detached);
    if (!run_until([&] { return stopped; }, hours{1})) violate("stop() does not end");
    // Replies were cut off, or the disk refused the last acks.
    if (!clean || clock_.now() >= deadline || refusing) upstream_.note_crash();
    io_.restart();
    io_.poll();
    pipeline_.reset();
}

void SimWorld::advance(milliseconds duration) {
    const auto end = clock_.now() + duration;
    bool reached = false;
    asio::co_spawn(io_, clock_.sleep_until(end),
                   [&reached](const std::exception_ptr&) { reached = true; });
    run_until([&] { return reached; }, duration + milliseconds{1});
    collect_acks();
}

void SimWorld::collect_acks() {
    if (!pipeline_) return;
    const auto durable = pipeline_->intake().durable_position();
    std::erase_if(waiting_, [&](const Waiting& one) {
        if (one.position > durable) return false;
        acknowledged_.insert(one.id);
        return true;
    });
}

std::string SimWorld::make_id() {
    if (!ids_.empty() && rng_.chance(100)) {
        return ids_[rng_.between(std::uint64_t{0}, ids_.size() - 1)];
    }
    const auto* const kind = rng_.chance(10) ? "poison" : "e";
    return ids_.emplace_back(fmt::format("{}-{}-{}", kind, seed_, next_id_++));
}

// What is offered again after the limits are reached may be accepted, and is then sent, again.
void SimWorld::note_accepted(const std::string& id) {
    const auto known = accepted_.find(id);
    if (known != accepted_.end()) {
        const auto& [at, before] = known->second;
        const bool must_be_known =
            clock_.now() - at < id_options_.window && accepts_ - before < id_options_.ids_max;
        if (!must_be_known) upstream_.excuse(id);
        if (must_be_known) return;
    }
    accepted_[id] = {clock_.now(), accepts_};
}

std::string SimWorld::make_event(const std::string& id) {
    if (rng_.chance(20)) {
        return fmt::format(R"({{"externalRequestId":"{}","provider":"openai","inputTokens":-1}})",
                           id);
    }
    return fmt::format(
        R"({{"externalRequestId":"{}","provider":"openai","model":"m","inputTokens":{},)"
        R"("outputTokens":1,"status":"success"}})",
        id, id.size());
}

void SimWorld::offer() {
    const auto kind = rng_.chance(500) ? ListenerKind::unix_stream : ListenerKind::http;
    auto& intake = pipeline_->intake();
    if (kind == ListenerKind::unix_stream && !intake.has_room()) return;
    std::vector<std::string> ids;
    std::vector<std::string> bytes;
    const auto count = rng_.between(std::uint64_t{1}, rng_.chance(100) ? 400 : 40);
    for (std::uint64_t i = 0; i < count; ++i) {
        ids.push_back(make_id());
        bytes.push_back(make_event(ids.back()));
    }
    std::vector<listen::Message> burst;
    for (const auto& text : bytes) burst.push_back({.bytes = text});
    const auto offered = intake.offer(burst, Origin{.kind = kind});
    for (std::size_t i = 0; i < offered.size(); ++i) {
        switch (offered[i].admission) {
            case listen::Admission::duplicate:
                mark(Mark::duplicate);
                if (offered[i].position > intake.durable_position()) {
                    mark(Mark::duplicate_before_durable);
                }
                [[fallthrough]];
            case listen::Admission::accepted:
                if (offered[i].admission == listen::Admission::accepted) {
                    note_accepted(ids[i]);
                    ++accepts_;
                }
                waiting_.push_back({ids[i], offered[i].position});
                break;
            case listen::Admission::rejected: mark(Mark::rejected); break;
            case listen::Admission::shed: mark(Mark::shed); break;
        }
    }
}

void SimWorld::harm_store() {
    const auto times = static_cast<std::uint32_t>(rng_.between(std::uint64_t{1}, 20));
    const auto landed = rng_.chance(500) ? test::Landed::yes : test::Landed::no;
    switch (rng_.between(std::uint64_t{0}, 11)) {
        case 0:
            store_->fail_next(test::StoreCall::commit, Errc::spool_full, times);
            mark(Mark::commit_refused);
            break;
        case 1: store_->fail_next(test::StoreCall::ack, Errc::spool_full, times); break;
        case 2: store_->fail_next(test::StoreCall::sync, Errc::spool_io, times); break;
        case 3: store_->fail_next(test::StoreCall::read, Errc::spool_io, times); break;
        case 4:
            store_->fail_next(test::StoreCall::commit, Errc::spool_reopen, 1, landed);
            mark(Mark::store_reopened);
            if (landed == test::Landed::yes) mark(Mark::failed_commit_landed);
            break;
        case 5:
            store_->fail_next(test::StoreCall::replay, Errc::spool_full, times, landed);
            mark(Mark::replay_refused);
            break;
        case 6: store_->fail_next(test::StoreCall::replay, Errc::spool_reopen, 1, landed); break;
        case 7: store_->fail_next(test::StoreCall::ack, Errc::spool_reopen, 1); break;
        case 8:
            store_->fail_next(test::StoreCall::make_run, Errc::spool_full, times);
            mark(Mark::run_refused);
            break;
        case 9: store_->fail_next(test::StoreCall::adopt_run, Errc::spool_reopen, 1, landed); break;
        case 10: store_->fail_next(test::StoreCall::drop_runs, Errc::spool_io, times); break;
        default:  // the disk is gone: reopening fails too
            store_->fail_next(test::StoreCall::commit, Errc::spool_reopen, 1, landed);
            store_->fail_next(test::StoreCall::reopen, Errc::spool_io, 1);
            break;
    }
}

void SimWorld::crash(bool power_loss) {
    mark(power_loss ? Mark::power_loss : Mark::kill);
    collect_acks();
    auto after = std::make_unique<test::MemStore>(*store_);
    const auto settled_before = after->lanes().front().next_settle;
    if (power_loss) {
        after->crash();
        if (after->lanes().front().next_settle < settled_before) mark(Mark::unsynced_acks_lost);
    } else {
        after->restart();
    }
    stop(false);
    waiting_.clear();  // nobody was told
    store_ = std::move(after);
    start();
}

void SimWorld::restart_cleanly() {
    mark(Mark::clean_restart);
    stop(true);
    waiting_.clear();
    store_->restart();
    start();
}

void SimWorld::act() {
    const auto roll = rng_.between(std::uint64_t{0}, 99);
    if (store_failed_) {  // the daemon exits with code 6 and its supervisor starts it again
        mark(Mark::store_gone);
        crash(false);
    } else if (roll < 60) {
        offer();
        advance(rng_.between(milliseconds{0}, milliseconds{50}));
    } else if (roll < 80) {
        advance(rng_.between(milliseconds{1},
                             rng_.chance(200) ? milliseconds{hours{1}} : milliseconds{5000}));
    } else if (roll < 83 && (hazards_ & Hazard::power) != 0) {
        crash(true);
    } else if (roll < 86 && (hazards_ & Hazard::kills) != 0) {
        crash(false);
    } else if (roll < 88) {
        restart_cleanly();
    } else if (roll < 94 && (hazards_ & Hazard::disk) != 0) {
        harm_store();
    } else if (roll < 95 && (hazards_ & Hazard::damage) != 0) {
        const auto lane = store_->lanes().front();
        if (lane.next_settle < lane.next_write &&
            store_->damage(kDefaultLane, rng_.between(lane.next_settle, lane.next_write - 1))) {
            mark(Mark::segment_damaged);
            lost_to_damage_ += spool::kSegmentEventsMax;  // at most what the segment held
        }
    } else if (roll < 97 && (hazards_ & Hazard::wall) != 0) {
        mark(Mark::wall_clock_jumped);
        clock_.jump_wall(rng_.between(milliseconds{0}, milliseconds{hours{48}}) -
                         milliseconds{hours{24}});
    } else if ((hazards_ & Hazard::keys) != 0) {
        mark(Mark::key_changed);
        const std::string key = rng_.chance(300) ? "" : "key";
        asio::post(io_, [this, key] { pipeline_->pump().set_key(key); });
        advance(rng_.between(milliseconds{0}, milliseconds{minutes{5}}));
        asio::post(io_, [this] { pipeline_->pump().set_key("key"); });
        advance(milliseconds{1});
    }
}

Snapshot SimWorld::snapshot() {
    std::optional<Snapshot> view;
    asio::co_spawn(io_, fetch(*pipeline_, view), asio::detached);
    io_.restart();
    while (!view && io_.poll_one() > 0) {
    }
    if (!view) violate("no snapshot");
    return view.value_or(Snapshot{});
}

void SimWorld::check() {
    const auto view = snapshot();
    if (view.ledger.imbalance() != 0) violate("ledger: " + view.ledger.to_json());
    if (!upstream_.unexcused().empty()) {
        violate("sent again although its delivery was known: " + upstream_.unexcused().front());
    }
    if (upstream_.concurrency_max() > forward::Options{}.connections) {
        violate(fmt::format("{} requests at once", upstream_.concurrency_max()));
    }
    if (view.ledger.storage.dead > 0) mark(Mark::dead_letter);
    if (view.ledger.storage.replayed > 0) mark(Mark::replayed);
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
        if (starts_ > 1) mark(Mark::confirmed_after_restart);
    }
}

void SimWorld::check_end() {
    const auto ledger = snapshot().ledger;
    if (ledger.spooled != 0 || ledger.pending != 0) {
        return violate(fmt::format("not drained in {} h: {}, lane {}", kDrainLimit.count(),
                                   ledger.to_json(), to_string(pipeline_->pump().status().state)));
    }
    std::set<std::string> dead;
    for (const auto& letter : store_->dead_letters()) {
        if (letter.kind == spool::DeadKind::upstream) dead.insert(letter.id);
    }
    std::uint64_t missing = 0;
    std::string example;
    for (const auto& id : acknowledged_) {
        if (upstream_.rows().count(id) != 0 || dead.count(id) != 0) continue;
        ++missing;
        example = id;
    }
    if (missing > lost_to_damage_) {
        violate(fmt::format("{} acknowledged events are nowhere, {} for one", missing, example));
    }
}

void SimWorld::violate(std::string what) {
    if (outcome_.violation.empty()) outcome_.violation = std::move(what);
}

Outcome SimWorld::run() {
    start();
    for (int i = 0; i < kActions && outcome_.violation.empty(); ++i) {
        act();
        check();
    }
    upstream_.heal();
    if (store_failed_ && outcome_.violation.empty()) crash(false);
    if (outcome_.violation.empty()) {
        run_until(
            [this] {
                if (store_failed_) return true;
                const auto state = store_->lanes().front();
                return state.next_settle == state.next_write && waiting_.empty();
            },
            kDrainLimit);
        if (store_failed_) crash(false);
        advance(milliseconds{minutes{1}});
        const auto rest = [this] { return snapshot().ledger.spooled == 0; };
        if (!rest()) run_until(rest, kDrainLimit);
        collect_acks();
        check();
        check_end();
    }
    outcome_.acknowledged = acknowledged_.size();
    outcome_.rows = upstream_.rows().size();
    outcome_.requests = upstream_.requests();
    outcome_.repeated = upstream_.repeated();
    outcome_.virtual_seconds = std::chrono::duration_cast<seconds>(clock_.now() - began_).count();
    outcome_.faults = upstream_.played();
    return outcome_;
}

}  // namespace opsrelay::sim
