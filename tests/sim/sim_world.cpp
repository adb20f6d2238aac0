#include "sim/sim_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <utility>

namespace opsrelay::sim {

namespace {

constexpr int kActions = 120;
constexpr int kStepsMax = 20'000'000;
constexpr int kProcessesMax = 8;    // begun in the liveness phase, after leftover failures
constexpr int kClearingsMax = 400;  // a world has fewer events that are refused for good
// Once every wait is over: probes, the ramp and the backlog itself.
constexpr hours kDrainLimit{2};

asio::awaitable<void> stop_and_tell(Pipeline& pipeline, TaskGroup& clients, TimePoint deadline,
                                    bool& stopped) {
    co_await pipeline.stop(deadline, milliseconds{2000});
    clients.cancel(asio::cancellation_type::terminal);
    co_await clients.join();
    stopped = true;
}

}  // namespace

SimWorld::SimWorld(std::uint64_t seed)
    : seed_(seed),
      rng_(seed),
      schedule_(seed ^ 0x4444),
      intake_rng_(seed ^ 0x1111),
      forward_rng_(seed ^ 0x2222),
      long_run_(seed % 20 == 7),
      hazards_(static_cast<std::uint32_t>(rng_.next())),
      began_(clock_.now()) {
    for (auto& io : threads_) work_.emplace_back(io.get_executor());
    choose_options();
    const auto lanes = 1 + seed % 4;
    if (lanes == 2) mark(Mark::two_lanes);
    if (lanes == 4) mark(Mark::four_lanes);
    std::vector<LaneId> ids;
    for (std::uint64_t i = 0; i < lanes; ++i) {
        ids.push_back(LaneId{static_cast<std::uint16_t>(i)});
        const auto name = i == 0 ? std::string("default") : fmt::format("lane{}", i);
        sides_.emplace_back(LaneName{ids.back(), name}, seed ^ (0x3333 + i), clock_,
                            rng_.next() & rng_.next(), long_run_);
        choose_kind(sides_.back());
    }
    store_ = std::make_unique<test::MemStore>(seed | 1U, ids, dead_limits_);
}

void SimWorld::choose_kind(Side& side) {
    if (side.rng.chance(200)) side.concurrency = forward::ConcurrencyMode::fixed;
    if (!side.rng.chance(300)) return;
    side.kind = forward::UpstreamKind::batch;
    side.batch.events_max = static_cast<unsigned>(side.rng.between(1, 40));
    side.batch.bytes_max = Bytes{side.rng.between(500, 20'000)};
    side.batch.linger = side.rng.between(milliseconds{0}, milliseconds{2000});
}

void SimWorld::choose_options() {
    spool_options_.stall_buffer = 64_KiB;  // small, so that it fills
    // Small, so that runs are made, merged and forgotten.
    auto& ids = spool_options_.ids;
    ids.window = rng_.between(milliseconds{minutes{20}}, milliseconds{hours{3}});
    ids.ids_max = rng_.between(200, 3000);
    ids.seal_ids = rng_.between(16, 64);
    ids.filter_bits = rng_.chance(200) ? 1 : 0;  // 1: every id has to be looked up
    if (rng_.chance(400)) spool_options_.bytes_max = Bytes{rng_.between(300'000, 600'000)};
    if (rng_.chance(300)) spool_options_.on_full = spool::OnFull::drop_oldest;
    if (rng_.chance(150)) {
        spool_options_.max_age = rng_.between(milliseconds{minutes{10}}, milliseconds{hours{6}});
    }
    if (rng_.chance(500)) dead_limits_.upstream_letters = rng_.between(1, 12);
    drops_ =
        spool_options_.on_full == spool::OnFull::drop_oldest || spool_options_.max_age.count() > 0;
}

SimWorld::~SimWorld() {
    if (pipeline_) stop(false);
}

void SimWorld::start() {
    ++process_;
    Pipeline::Options options;
    options.spool = spool_options_;
    options.intake.admit.table_ids = spool_options_.ids.seal_ids;
    for (auto& side : sides_) {
        if (!side.configured) continue;
        forward::Options forward;
        forward.max_age = spool_options_.max_age;
        forward.kind = side.kind;
        forward.batch = side.batch;
        forward.concurrency = side.concurrency;
        options.lanes.push_back({side.name, forward, side.upstream, side.plan});
    }
    std::uint64_t expected = 0;
    for (const auto& lane : store_->lanes()) {
        expected += lane.spooled();
    }
    registry_ = std::make_unique<observe::Registry>();
    store_failed_ = killed_ = false;
    pipeline_ = std::make_unique<Pipeline>(
        Executors{threads_[0].get_executor(), threads_[1].get_executor(),
                  threads_[2].get_executor(), threads_[3].get_executor()},
        clock_, intake_rng_, forward_rng_, *store_, options, *registry_,
        [this](const Error&) { store_failed_ = true; });
    clients_ = std::make_unique<TaskGroup>(threads_[0].get_executor(), clock_);
    if (const auto recovered = pipeline_->recover(); !recovered) {
        violate("recover: " + recovered.error().context);
    }
    pipeline_->start();
    asio::post(threads_[2], [this] {
        for (const auto& side : sides_) {
            if (side.configured) pipeline_->pump(side.name.lane).set_key("key");
        }
    });
    const auto view = snapshot();
    if (view && view->ledger.storage.recovered != expected) {
        violate(
            fmt::format("{} records recovered of {}", view->ledger.storage.recovered, expected));
    }
    advance(milliseconds{1});
}

bool SimWorld::poll_one() {
    const auto first = schedule_.next() % threads_.size();
    for (std::size_t i = 0; i < threads_.size(); ++i) {
        const auto thread = (first + i) % threads_.size();
        if (thread == 1 && stalled()) continue;
        if (threads_.at(thread).poll_one() > 0) return true;
    }
    return false;
}

void SimWorld::settle_threads() {
    while (poll_one()) {
    }
}

// To the next timer, or to the moment at which the disk answers again.
bool SimWorld::step() {
    const auto due = clock_.next_due();
    if (stalled() && (!due || *due >= stalled_until_)) {
        clock_.advance(stalled_until_ - clock_.now());
        return true;
    }
    return clock_.step();
}

template <typename Done>
bool SimWorld::run_until(Done done, milliseconds limit) {
    const auto end = clock_.now() + limit;
    for (int steps = 0; steps < kStepsMax; ++steps) {
        settle_threads();
        if (done()) return true;
        if (clock_.now() >= end || !step()) return done();
    }
    violate("the simulation does not come to rest");
    return false;
}

void SimWorld::stop(bool clean) {
    bool stopped = false;
    const auto deadline = clock_.now() + (clean ? milliseconds{2000} : milliseconds{0});
    asio::co_spawn(threads_[2], stop_and_tell(*pipeline_, *clients_, deadline, stopped),
                   asio::detached);
    if (!run_until([&] { return stopped; }, hours{1})) violate("stop() does not end");
    settle_threads();
    check_dropped();
    clients_.reset();
    pipeline_.reset();
}

void SimWorld::advance(milliseconds duration) {
    const auto end = clock_.now() + duration;
    bool reached = false;
    asio::co_spawn(threads_[0], clock_.sleep_until(end),
                   [&reached](const std::exception_ptr&) { reached = true; });
    if (!run_until([&reached] { return reached; }, duration + milliseconds{1})) {
        violate("time stands still");
    }
    collect_acks();
}

void SimWorld::violate(std::string what) {
    if (outcome_.violation.empty()) outcome_.violation = std::move(what);
}

milliseconds SimWorld::longest_wait() {
    auto longest = jumped_;  // since a lane told when it is due, the calendar may have jumped
    for (const auto& lane : pipeline_->lanes()) {
        if (!lane.retry_at) continue;
        const auto wait = *lane.retry_at - clock_.wall_now();
        longest = std::max(longest, jumped_ + std::chrono::ceil<milliseconds>(wait));
    }
    for (const auto& lane : store_->lanes()) {
        for (const auto& record : lane.deferred) {
            const milliseconds wait{record.due_unix_ms - unix_ms(clock_.wall_now())};
            longest = std::max(longest, jumped_ + wait);
        }
    }
    return longest;
}

// No fault begins any more; those under way may end the process a few times yet.
void SimWorld::recover_health() {
    stalled_until_ = {};
    store_->refuse_writes(std::nullopt);
    store_->set_volume(100_GiB, 200_GiB);
    for (auto& side : sides_) side.upstream.heal();
    configure_all();
    const auto done = [this] {
        if (store_failed_) return true;
        const auto lanes = store_->lanes();
        const auto resends = std::any_of(sides_.begin(), sides_.end(),
                                         [](const Side& side) { return !side.resend.empty(); });
        return waiting_.empty() && !resends &&
               std::all_of(lanes.begin(), lanes.end(),
                           [](const spool::LaneState& lane) { return lane.spooled() == 0; });
    };
    const auto ended = [this, &done] { return done() || dead_full(); };
    // What is refused once more after it was put back is purged, until the room for it suffices.
    auto clearing = Clearing::put_back;
    int processes = 0;
    for (int i = 0; i < kClearingsMax && outcome_.violation.empty(); ++i) {
        if (store_failed_ && ++processes > kProcessesMax) return;
        if (store_failed_) crash(false);
        for (std::size_t side = 0; side < sides_.size(); ++side) set_paused(false, side);
        clear_dead_letters(std::exchange(clearing, Clearing::purge));
        advance(seconds{5});  // housekeeping opens intake again, clients hear what is durable
        resend();
        advance(seconds{5});
        run_until(ended, longest_wait() + kDrainLimit);
        collect_acks();
        if (!store_failed_ && done()) return;
    }
}

bool SimWorld::dead_full() const {
    const auto lanes = pipeline_->lanes();
    return std::any_of(lanes.begin(), lanes.end(), [](const forward::LaneStatus& lane) {
        return lane.state == forward::LaneState::dead_full;
    });
}

Outcome SimWorld::run() {
    start();
    const auto actions = long_run_ ? kActions / 2 : kActions;
    for (int i = 0; i < actions && outcome_.violation.empty(); ++i) {
        act();
        check();
    }
    if (outcome_.violation.empty()) {
        recover_health();
        advance(milliseconds{minutes{1}});
        check();
        check_end();
    }
    for (const auto& side : sides_) {
        outcome_.acknowledged += side.acknowledged.size();
        outcome_.rows += side.upstream.rows().size();
        outcome_.requests += side.upstream.requests();
        outcome_.repeated += side.upstream.repeated();
        outcome_.coverage.add(side.upstream.coverage());
    }
    outcome_.virtual_seconds = std::chrono::duration_cast<seconds>(clock_.now() - began_).count();
    if (clock_.now() - began_ >= std::chrono::days{14}) mark(Mark::two_weeks);
    return outcome_;
}

}  // namespace opsrelay::sim
