#include "forward/pump.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#include "forward/plan_memo.h"

namespace opsrelay::forward {

namespace {

constexpr milliseconds kChangeLogInterval{30'000};
constexpr milliseconds kOutageLogInterval{60'000};
constexpr seconds kWatchInterval{30};
// An ack costs two changes of thread and a write: what ends within a moment is settled together.
// The first one after a pause is settled at once. A crash sends again what was not settled yet.
constexpr std::size_t kSettleGroup = 64;
constexpr milliseconds kSettleGap{5};
// It also costs as much as its span is long: over a long one, more is gathered.
constexpr std::size_t kLongSpan = 4096;
constexpr milliseconds kLongSettleGap{10};

}  // namespace

Pump::Pump(asio::any_io_executor forward, Clock& clock, Rng& rng, spool::Settler& settler,
           Upstream& upstream, const Options& options, LaneName lane, observe::Registry& registry,
           PlanState& plan)
    : clock_(clock),
      rng_(rng),
      settler_(settler),
      upstream_(upstream),
      plan_(plan),
      registry_(registry),
      options_(options),
      name_(std::move(lane)),
      lane_(name_.lane, options, rng, moment()),
      concurrency_(options.concurrency, options.connections),
      batcher_(1, options.in_flight_max),
      batch_bytes_max_(options.batch.bytes_max),
      read_backoff_(options.backoff_base, options.backoff_max, rng),
      put_back_backoff_(options.backoff_base, options.backoff_max, rng),
      changed_(forward, clock),
      readable_(forward, clock),
      settleable_(forward, clock),
      deferrable_(forward, clock),
      sends_(forward, clock),
      loops_(forward, clock),
      timers_(forward, clock),
      change_throttle_(clock, kChangeLogInterval),
      outage_throttle_(clock, kOutageLogInterval),
      plan_fields_(plan.get()),
      progress_at_(clock.now()),
      late_(registry),
      plan_gauges_(registry, name_.name),
      retry_at_gauge_(registry.gauge(observe::kLaneRetryAt, name_.name)),
      concurrency_gauge_(registry.gauge(observe::kLaneConcurrency, name_.name)),
      depth_gauge_(registry.gauge(observe::kPipelineDepth, name_.name)),
      seconds_(registry.histogram(observe::kUpstreamSeconds, name_.name)) {
    for (std::size_t i = 0; i < kLaneStates.size(); ++i) {
        states_[i] = &registry.gauge(observe::kLaneState, name_.name, kLaneStates[i].name);
    }
    for (std::size_t i = 0; i < kVerdicts.size(); ++i) {
        if (kVerdicts[i].value == Verdict::delivered) continue;
        retries_[i] = &registry.counter(observe::kUpstreamRetries, name_.name, kVerdicts[i].name);
    }
    plan_gauges_.show(plan_fields_);
    status_.lane = name_.lane;
    status_.name = name_.name;
    follow_pipelining();
    publish_refusal();
    publish();
}

void Pump::follow_pipelining() {
    const auto now = upstream_.pipelining();
    if (now.depth == depth_) return;
    const auto was = std::exchange(depth_, now.depth);
    depth_gauge_.set(depth_);
    const auto carried = std::size_t{std::max(1U, options_.connections)} * depth_;
    const auto most = std::min(carried, options_.in_flight_max);
    lane_.set_most(most);
    concurrency_.set_most(most);
    if (was > 0) log_pipelining(now, was);
}

void Pump::start(const spool::LaneStart& from) {
    if (from.paused) set_paused(true);
    batcher_ = Batcher(from.first, options_.in_flight_max);
    batcher_.set_held_max(held_max_);
    deferred_ = from.deferred;
    if (auto fields = decode_plan(from.memo)) {
        plan_fields_ = std::move(*fields);
        plan_gauges_.show(plan_fields_);
        plan_.set(plan_fields_);
    }
    loops_.spawn("forward dispatch", dispatch_loop());
    loops_.spawn("forward read", read_loop());
    loops_.spawn("forward settle", settle_loop());
    loops_.spawn("forward defer", defer_loop());
    timers_.spawn("forward watch", watch_loop());
    set_max_age(options_.max_age);
}

void Pump::wake_all() {
    changed_.notify_all();
    readable_.notify_all();
    settleable_.notify_all();
    deferrable_.notify_all();
}

void Pump::notify_records() {
    batcher_.note_records();
    readable_.notify_all();
}

void Pump::set_key(const Secret& key) {
    const bool has_key = !key.empty();
    upstream_.set_api_key(key);
    lane_.on_key(has_key, moment());
    // The lane begins without a key, which is worth a word only when none was given.
    if (has_key) {
        no_key_known_ = true;  // losing it is a change of state, and logged as that
    } else if (!std::exchange(no_key_known_, true)) {
        log_no_key();
    }
    note_lane();
    changed_.notify_all();
}

void Pump::set_key_source(std::function<std::optional<Secret>()> source) {
    key_source_ = std::move(source);
}

void Pump::ask_for_key() {
    const bool may_help = on_event_in(lane_.state(), LaneEvent::key_given) == Turn::probe;
    if (!may_help || !key_source_) return;
    if (const auto key = key_source_()) set_key(*key);
}

void Pump::note_dead_room() {
    lane_.on_dead_room(moment());
    note_lane();
    changed_.notify_all();
}

void Pump::set_paused(bool paused) {
    lane_.on_paused(paused, moment());
    note_lane();
    changed_.notify_all();
}

void Pump::set_held_max(Bytes share) {
    held_max_ = share;
    batcher_.set_held_max(share);
    readable_.notify_all();
}

LaneStatus Pump::status() const {
    const std::lock_guard lock(status_mutex_);
    auto status = status_;
    status.in_flight = in_flight_.load(std::memory_order_relaxed);
    const auto oldest = oldest_received_unix_ms_.load(std::memory_order_relaxed);
    if (oldest != 0) status.oldest_received_unix_ms = oldest;
    status.late = late_.counts();
    return status;
}

asio::awaitable<void> Pump::dispatch_loop() {
    while (!stopping_) {
        dispatch_due_ = dispatch();
        co_await changed_.wait_until(dispatch_due_);
    }
}

std::optional<Pump::Work> Pump::next_work(TimePoint& until) {
    until = TimePoint::max();
    while (!stopping_ && !drop_) {  // what is to be given up is not sent any more
        const auto now = clock_.now();
        const auto permit = lane_.next(now);
        if (lane_.state() != LaneState::active) scatter();
        std::optional<Item> item;
        switch (permit.action) {
            case Action::wait: until = permit.until; return std::nullopt;
            case Action::check_status:
                sends_.spawn("workspace status", check_status(lane_.begin(permit.action)));
                continue;
            case Action::start:
            case Action::probe:
                if (storage_lags()) return std::nullopt;
                if (permit.action == Action::start && lane_.in_flight() >= concurrency_.limit()) {
                    return std::nullopt;  // a reply makes room
                }
                if (options_.kind == UpstreamKind::batch && permit.action == Action::start &&
                    !due_) {
                    if (!gather(now, until)) return std::nullopt;
                    return Work{std::exchange(gathered_, {}), lane_.begin(permit.action), now};
                }
                item = choose(permit.action, until);
                if (item && permit.action == Action::probe) ask_for_key();
                break;
        }
        if (!item) return std::nullopt;
        std::vector<Item> items;
        items.push_back(std::move(*item));
        return Work{std::move(items), lane_.begin(permit.action), now};
    }
    return std::nullopt;
}

// A deferred record, which is due rarely, goes before all others, but behind them as long as
// upstream has taken nothing: its failure, which is likely, would be the lane's.
std::optional<Item> Pump::choose(Action action, TimePoint& until) {
    const bool probe = action == Action::probe;
    std::optional<Item> item;
    if (!probe && lane_.proven()) item = take_deferred();
    if (!item) item = probe ? batcher_.next_probe() : batcher_.next(clock_.now());
    if (!item) item = take_deferred();
    if (!item && !probe) until = batcher_.next_due();
    return item;
}

TimePoint Pump::dispatch() {
    auto until = TimePoint::max();
    while (auto work = next_work(until)) sends_.spawn("send", send(std::move(*work)));
    return until;
}

void Pump::go_on() {
    const auto until = dispatch();
    if (until < dispatch_due_ || draining_) changed_.notify_all();
    if (batcher_.want_read()) readable_.notify_all();
    // The first of a group; the loop waits for no more than a moment.
    const bool first = !ends_.empty() && !std::exchange(ends_told_, true);
    if (first || ends_.size() >= settle_group() || !put_back_.empty()) settleable_.notify_all();
}

asio::awaitable<void> Pump::read_loop() {
    while (!stopping_) {
        const auto from = batcher_.want_read();
        if (!from) {
            co_await readable_.wait();
            continue;
        }
        auto batch = co_await settler_.read(name_.lane, *from);
        if (batch) {
            read_backoff_.reset();
            batcher_.on_read(std::move(*batch));
            drop_expired();
            publish();
            go_on();
            continue;
        }
        const auto due = clock_.now() + read_backoff_.next();
        log_read_failure(batch.error(), *from, due);
        while (!stopping_ && clock_.now() < due) co_await readable_.wait_until(due);
    }
}

bool Pump::storage_lags() const noexcept { return unpersisted_ > options_.in_flight_max; }

std::size_t Pump::settle_group() const noexcept {
    if (unpersisted_ > 0) return 1;  // storage_lags() counts what was handed over
    const auto quarter = std::max<std::size_t>(options_.in_flight_max / 4, 1);
    return batcher_.span() > kLongSpan ? quarter : std::min(quarter, kSettleGroup);
}

TimePoint Pump::settle_due() const noexcept {
    return settled_at_ + (batcher_.span() > kLongSpan ? kLongSettleGap : kSettleGap);
}

asio::awaitable<void> Pump::settle_loop() {
    while (true) {
        const auto now = clock_.now();
        const bool has_news = !ends_.empty() || memo_;
        // A dead letter must be stored before it can be put back.
        const bool can_put_back = unpersisted_ == 0 && now >= put_back_due_;
        const auto due_together = settle_due();
        const bool gather = now < due_together && ends_.size() < settle_group() && !finishing_;
        if (has_news && gather) {
            co_await settleable_.wait_until(due_together);
        } else if (has_news) {
            co_await settle_ends();
        } else if (drop_ && !finishing_) {
            co_await drop_records();
        } else if (!put_back_.empty() && (can_put_back || finishing_)) {
            co_await put_back_dead_letters();
        } else if (finishing_) {
            co_return;
        } else if (unpersisted_ > 0 && now >= persist_due_) {
            co_await settle_ends();
        } else {
            auto due = TimePoint::max();
            if (unpersisted_ > 0) {
                due = persist_due_;
            } else if (!put_back_.empty()) {
                due = put_back_due_;
            }
            co_await settleable_.wait_until(due);
        }
    }
}

asio::awaitable<void> Pump::settle_ends() {
    // Everything that ended while the last call was under way goes into this one.
    auto ends = std::exchange(ends_, {});
    ends_told_ = false;
    std::vector<Seq> settled;
    settled.reserve(ends.size());
    bool tried = false;  // the deferred record
    for (const auto& end : ends) {
        tried = tried || end.was_deferred;
        if (!end.was_deferred) settled.push_back(end.seq);
    }
    settling_ = !ends.empty();
    auto memo = std::exchange(memo_, std::nullopt);
    const auto result = co_await settler_.settle(name_.lane, std::move(ends), std::move(memo));
    const bool persisted = result.persisted;
    settling_ = false;
    if (tried) {
        trying_.reset();
        deferrable_.notify_all();
    }
    note_moved(settled, result);
    for (const auto seq : settled) batcher_.settled(seq);
    settled_at_ = clock_.now();
    if (!settled.empty()) progress_at_ = settled_at_;
    unpersisted_ = persisted ? 0 : unpersisted_ + settled.size();
    if (!persisted) {
        persist_due_ = clock_.now() + kStorageRetry;
        if (storage_lags()) log_storage_lag();
    }
    publish();
    go_on();
}

asio::awaitable<void> Pump::put_back_dead_letters() {
    settling_ = true;
    const auto wanted = std::exchange(put_back_, {});
    const auto put_back = co_await settler_.replay(name_.lane, wanted);
    settling_ = false;
    if (put_back) {
        put_back_backoff_.reset();
        log_put_back(*put_back);
        batcher_.note_records();
        go_on();
        co_return;
    }
    if (!finishing_) {
        put_back_.insert(put_back_.begin(), wanted.begin(), wanted.end());
        put_back_due_ = clock_.now() + std::max(kStorageRetry, put_back_backoff_.next());
    }
    log_put_back_failure(put_back.error(), wanted.size());
}

asio::awaitable<void> Pump::watch_loop() {
    const auto stop = co_await asio::this_coro::cancellation_state;
    while (stop.cancelled() == asio::cancellation_type::none) {
        co_await clock_.sleep_for(kWatchInterval);
        const auto now = clock_.now();
        if (batcher_.held_up()) log_held_up();
        log_state();  // if the line was held back when it changed
        // Stuck records are no sign of a stall: they fail on connections that serve the others.
        const bool waiting = batcher_.unsettled() > batcher_.stuck() &&
                             lane_.state() == LaneState::active && !batcher_.held_up() &&
                             !storage_lags();
        if (!waiting) progress_at_ = now;
        const bool stalled = now - progress_at_ >= options_.stall_limit;
        upstream_.tend_connections(stalled);
        follow_pipelining();
        if (!stalled) continue;
        log_stall(now - progress_at_);
        progress_at_ = now;
    }
}

void Pump::note_lane() {
    if (std::exchange(shown_, lane_.state()) != lane_.state()) log_state();
    publish();
}

void Pump::publish() {
    in_flight_.store(lane_.in_flight(), std::memory_order_relaxed);
    oldest_received_unix_ms_.store(batcher_.oldest_received_unix_ms().value_or(0),
                                   std::memory_order_relaxed);
    const auto due = lane_.retry_at();
    const auto concurrency = std::min(lane_.window(), concurrency_.limit());
    const bool same = !due && !status_.retry_at && status_.state == lane_.state() &&
                      status_.since == lane_.since() && status_.last_error == last_error_ &&
                      status_.concurrency == concurrency;
    if (same) return;  // as after nearly every reply
    const auto at = moment();
    std::optional<WallTime> retry_at;
    if (due && *due != TimePoint::max()) {
        const auto left = std::max(*due - at.now, TimePoint::duration::zero());
        retry_at = at.wall + std::chrono::duration_cast<WallTime::duration>(left);
    }
    publish_refusal();
    retry_at_gauge_.set(retry_at ? static_cast<double>(unix_ms(*retry_at)) / 1000.0 : 0.0);
    concurrency_gauge_.set(static_cast<double>(concurrency));
    for (std::size_t i = 0; i < states_.size(); ++i) {
        states_[i]->set(index_of(lane_.state()) == i ? 1.0 : 0.0);
    }
    const std::lock_guard lock(status_mutex_);
    status_.state = lane_.state();
    status_.since = lane_.since();
    status_.retry_at = retry_at;
    status_.concurrency = concurrency;
    status_.last_error = last_error_;
}

void Pump::publish_refusal() {
    using Kind = UpstreamRefusal::Kind;
    UpstreamRefusal refusal;
    if (lane_.state() == LaneState::plan_limited) refusal.kind = Kind::plan_limit;
    if (lane_.state() == LaneState::budget_stopped) refusal.kind = Kind::budget;
    if (lane_.state() == LaneState::throttled) refusal.kind = Kind::throttled;
    if (refusal.kind != Kind::none) refusal.retry_at = lane_.retry_at().value_or(clock_.now());
    plan_.set_refusal(refusal);
}

}  // namespace opsrelay::forward
