#include "spool/id_keeper.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "core/run_on.h"
#include "spool/disk_plan.h"

namespace opsrelay::spool {
namespace {

constexpr milliseconds kTickMin{1'000};
constexpr milliseconds kTickMax{30'000};
constexpr milliseconds kRetryEvery{1'000};
constexpr milliseconds kTroubleLogEvery{10'000};
constexpr std::int64_t kWindowTicks = 48;
constexpr unsigned kFilterBits = 16;
constexpr unsigned kFilterBitsMin = 8;
// Times beyond it come from a damaged value; adding a window to it must not overflow.
constexpr std::int64_t kTimeMax = std::int64_t{1} << 60U;

}  // namespace

IdKeeper::Seal::Seal() : ids(std::make_shared<Ids>()) {}

IdKeeper::IdKeeper(const Executors& executors, Clock& clock, Store& store, const Options& options,
                   observe::Registry& registry, Hooks hooks)
    : executors_(executors),
      clock_(clock),
      store_(store),
      options_(options.ids),
      ids_max_(plan_disk(options).ids),
      // Generations of a small index are smaller than a seal.
      seal_ids_(static_cast<std::size_t>(std::clamp<std::uint64_t>(
          ids_max_ / IdPlan::kGenerations, 1, std::max<std::size_t>(1, options_.seal_ids)))),
      seal_age_(std::min(options_.seal_age, options_.window / (kWindowTicks / 2))),
      tick_(std::clamp(milliseconds{options_.window / kWindowTicks}, kTickMin, kTickMax)),
      hooks_(std::move(hooks)),
      damaged_(registry.counter(observe::kDedupeDamaged)),
      plan_(options_.window, ids_max_),
      wake_(executors.storage, clock),
      throttle_(clock, kTroubleLogEvery) {
    for (const auto& [step, name] : kIdSteps) {
        steps_[index_of(step)] = &registry.counter(observe::kDedupeRuns, name);
    }
    for (const auto& [result, name] : kIdLookups) {
        lookups_[index_of(result)] = &registry.counter(observe::kDedupeLookups, name);
    }
}

Result<void> IdKeeper::recover(const std::function<void(const IdHash&)>& sink) {
    std::int64_t last_ms = 0;
    auto replayed = store_.replay_ids([&](const IdHash& id, std::int64_t at_ms) {
        at_ms = std::clamp<std::int64_t>(at_ms, 0, kTimeMax);
        gathered_oldest_ms_ = gathered_.empty() ? at_ms : std::min(gathered_oldest_ms_, at_ms);
        gathered_.push_back(id);
        last_ms = std::max(last_ms, at_ms);
        sink(id);
    });
    if (!replayed) return replayed;
    const auto runs = store_.id_runs();
    for (const auto& run : runs) last_ms = std::max(last_ms, run.info.newest_ms);
    clock_start_ = clock_.now();
    clock_base_ms_ = std::min(last_ms > 0 ? last_ms : unix_ms(clock_.wall_now()), kTimeMax);
    take_stock();
    return {};
}

std::int64_t IdKeeper::now_ms() const noexcept {
    return clock_base_ms_ +
           std::chrono::duration_cast<milliseconds>(clock_.now() - clock_start_).count();
}

void IdKeeper::note_committed(std::span<const Segment> segments, Position last) {
    committed_ = last;
    for (const auto& segment : segments) {
        if (segment.ids.empty()) continue;
        if (gathered_.empty()) gathered_oldest_ms_ = segment.id_clock_ms;
        gathered_.insert(gathered_.end(), segment.ids.begin(), segment.ids.end());
    }
    if (table_is_full()) wake_.notify_all();
}

std::vector<bool> IdKeeper::find(std::span<const IdHash> ids) {
    auto found = store_.find_ids(ids);
    const auto hits = static_cast<std::uint64_t>(std::count(found.begin(), found.end(), true));
    lookups_[index_of(IdLookup::found)]->add(hits);
    lookups_[index_of(IdLookup::absent)]->add(found.size() - hits);
    return found;
}

std::uint64_t IdKeeper::unsealed() const noexcept {
    return gathered_.size() + (seal_ ? seal_->ids->size() : 0);
}

std::uint64_t IdKeeper::uncovered() const noexcept { return committed_ - covered_.value_or(0); }

bool IdKeeper::table_is_full() const noexcept {
    return std::max<std::uint64_t>(gathered_.size(), uncovered()) >= seal_ids_;
}

bool IdKeeper::has_room() const noexcept {
    return std::max(unsealed(), uncovered()) < kUnsealedSeals * seal_ids_;
}

milliseconds IdKeeper::window() const noexcept {
    auto oldest = plan_.oldest_ms();
    if (!oldest && seal_) oldest = seal_->oldest_ms;
    if (!oldest && !gathered_.empty()) oldest = gathered_oldest_ms_;
    return milliseconds{oldest ? std::max<std::int64_t>(0, now_ms() - *oldest) : 0};
}

asio::awaitable<void> IdKeeper::run() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        const bool more = co_await step();
        if (more) continue;
        // A retry must not be hurried by the next commit.
        const bool stuck = seal_.has_value();
        if (stuck) {
            co_await clock_.sleep_for(kRetryEvery);
        } else {
            co_await wake_.wait_until(clock_.now() + tick_);
        }
    }
}

bool IdKeeper::seal_is_due() const noexcept {
    if (gathered_.empty()) return false;
    if (table_is_full()) return true;
    const auto now = now_ms();
    const auto end = plan_.generation_end_ms();
    return now - gathered_oldest_ms_ >= seal_age_.count() ||
           (end && gathered_oldest_ms_ < *end && now >= *end);
}

asio::awaitable<bool> IdKeeper::step() {
    if (!seal_ && seal_is_due()) begin_seal();
    if (seal_) co_return co_await seal();
    if (uncovered() >= seal_ids_) {  // nothing but repeats
        cover(committed_);
        co_return true;
    }
    if (!stalled_) {
        const auto old = plan_.expired(now_ms(), unsealed());
        if (!old.empty()) co_return expire(old);
    }
    auto next = plan_.next_merge();
    if (!next) co_return false;
    co_return co_await merge(std::move(*next));
}

void IdKeeper::begin_seal() {
    seal_.emplace();
    seal_->ids->swap(gathered_);
    seal_->oldest_ms = gathered_oldest_ms_;
    seal_->newest_ms = now_ms();
    seal_->log_end = store_.id_log_end();
    seal_->last = committed_;
}

// Of a run in the open generation. There are many and all are asked, so their filters are seldom
// wrong.
unsigned IdKeeper::open_filter_bits() const noexcept {
    return options_.filter_bits != 0 ? options_.filter_bits : kFilterBits;
}

unsigned IdKeeper::filter_bits() const noexcept {
    if (options_.filter_bits != 0) return options_.filter_bits;
    const auto bits_max = 8 * options_.filters_max.count;
    // Runs keep the bits they were made with: the second half of the memory is for all the rest.
    if (ids() * kFilterBits <= bits_max / 2) return kFilterBits;
    const auto open = ids_max_ / IdPlan::kGenerations;
    const auto closed_bits = bits_max - std::min(bits_max, open * kFilterBits);
    const auto bits = closed_bits / std::max<std::uint64_t>(1, ids_max_ - open);
    return static_cast<unsigned>(std::clamp<std::uint64_t>(bits, kFilterBitsMin, kFilterBits));
}

asio::awaitable<bool> IdKeeper::seal() {
    // An attempt that failed may have worked all the same, which shows when the store is reopened.
    if (store_.id_log_begin() < seal_->log_end) {
        const auto name = plan_.next_run(seal_->oldest_ms);
        auto job = store_.seal_job(
            {name, seal_->oldest_ms, seal_->newest_ms, seal_->log_end, open_filter_bits()},
            seal_->ids);
        const auto made = co_await run_on(executors_.maintenance, std::move(job));
        const auto taken = made ? store_.adopt_run(*made) : Result<void>(made.error());
        if (!taken) {
            note_trouble(IdStep::sealed, taken.error());
            co_return false;
        }
    }
    const auto last = seal_->last;
    seal_.reset();
    note_done(IdStep::sealed);
    cover(last);
    co_return true;
}

void IdKeeper::cover(Position last) {
    covered_ = last;
    take_stock();
    hooks_.room();
}

asio::awaitable<bool> IdKeeper::merge(RunMerge merge) {
    auto job = store_.merge_job(merge.output, merge.inputs, filter_bits());
    const auto made = co_await run_on(executors_.maintenance, std::move(job));
    const auto taken = made ? store_.adopt_run(*made) : Result<void>(made.error());
    take_stock();
    if (!taken) {
        note_trouble(IdStep::merged, taken.error());
        co_return false;
    }
    note_done(IdStep::merged);
    co_return true;
}

bool IdKeeper::expire(const std::vector<RunName>& names) {
    const auto dropped = store_.drop_runs(names);
    take_stock();
    if (!dropped) {
        note_trouble(IdStep::expired, dropped.error());
        return false;
    }
    note_done(IdStep::expired);
    return true;
}

void IdKeeper::take_stock() {
    const auto runs = store_.id_runs();
    plan_.set_runs(runs);
    damaged_.set_total(store_.damaged_id_pages());
    IdView view;
    view.covered = covered_;
    for (auto run = runs.rbegin(); run != runs.rend(); ++run) view.filters.push_back(run->filter);
    hooks_.changed(std::move(view));
}

void IdKeeper::note_trouble(IdStep step, const Error& error) {
    if (const auto hidden = throttle_.allow(to_string(step))) {
        log::warn("spool", "ids could not be moved, tried again",
                  {{"step", to_string(step)},
                   {"error", error.context},
                   {"unsealed_ids", unsealed()},
                   {"retry_in_ms", kRetryEvery.count()},
                   {"suppressed", *hidden}});
    }
}

}  // namespace opsrelay::spool
