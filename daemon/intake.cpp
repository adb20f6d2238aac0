#include "intake.h"

#include <algorithm>
#include <boost/asio/this_coro.hpp>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace opsrelay {

namespace {

constexpr unsigned kDeadLettersPerSecond = 50;  // of events that were never accepted
// A burst is handed over in parts of about this size: four of them fill a segment.
constexpr std::size_t kHandOverBytes = 120U << 10U;
// What admission reads is fetched while later events are parsed: so many that the memory has
// answered, so few that the cache still has it.
constexpr std::size_t kStagedEvents = 16;
constexpr std::size_t kStagedBytes = 64U << 10U;
// One for each connection that may wait, and some that no longer do.
constexpr std::size_t kStruckMax = 4'096;

}  // namespace

using listen::Admission;
using listen::Settled;

Intake::Intake(asio::any_io_executor ingest, Clock& clock, Rng& rng, std::uint64_t salt,
               const Options& options, spool::SegmentQueue& queue, observe::Registry& registry,
               std::function<void()> wake_storage)
    : clock_(clock),
      rng_(rng),
      salt_(salt),
      queue_(queue),
      wake_storage_(std::move(wake_storage)),
      client_dropped_(registry.counter(observe::kClientDropped)),
      usage_(registry.llm_usage()),
      parser_(std::in_place, options.parse, rng),
      index_(options.admit),
      progress_(std::move(ingest), clock) {
    for (const auto& repair : parse::kRepairs) {
        repairs_.push_back(&registry.counter(observe::kEventsRepaired, repair.name));
    }
}

std::span<const listen::Offered> Intake::offer(std::span<const listen::Message> burst,
                                               const Origin& origin) {
    received_ = clock_.wall_now();
    offered_.clear();
    offered_.resize(burst.size());
    burst_.segment.lane = origin.lane;
    for (std::size_t i = 0; i < burst.size(); ++i) {
        take(burst[i], origin, offered_[i]);
        if (staged_.size() == kStagedEvents || staged_bytes_ >= kStagedBytes) {
            admit_staged(origin);
            if (burst_.segment.payload.size() >= kHandOverBytes) hand_over();
        }
    }
    admit_staged(origin);
    hand_over();
    return offered_;
}

void Intake::take(const listen::Message& message, const Origin& origin, listen::Offered& offered) {
    ++burst_.totals.received;
    if (message.oversize) {
        parse::Rejection rejection;
        rejection.reason = RejectReason::too_large;
        rejection.message =
            message.limit.empty() ? "an event may have at most 64 KiB" : message.limit;
        return reject(rejection, message, origin, offered);
    }
    if (message.over_rate) return shed(ShedReason::rate_limited, offered);
    const bool never_shed = origin.kind == ListenerKind::unix_stream;
    if (!never_shed && !queue_.spool_open()) return shed(ShedReason::spool_full, offered);
    if (!never_shed && !queue_.has_room()) return shed(ShedReason::memory_full, offered);
    if (parser_->parse(message.bytes, received_, origin.defaults)) {
        stage(parser_->event(), origin, offered);
    } else {
        reject(parser_->rejection(), message, origin, offered);
    }
}

// The event's bytes go to where they stay if it is admitted.
void Intake::stage(const parse::Event& event, const Origin& origin, listen::Offered& offered) {
    count_repairs(event.repairs);
    if (origin.kind == ListenerKind::http) offered.id = event.id;
    const auto id = admit::hash_id(salt_, origin.lane, event.id);
    index_.prefetch(id);
    auto& series = usage_.of({event.provider, event.model, event.endpoint_tag, event.status});
    staged_.push_back({&offered,
                       id,
                       event.content_hash,
                       event.json.size() + 1,
                       {&series, event.input_tokens, event.output_tokens}});
    staged_bytes_ += event.json.size() + 1;
    burst_.segment.payload.append(event.json);
    burst_.segment.payload.push_back('\n');
}

void Intake::admit_staged(const Origin& origin) {
    auto& payload = burst_.segment.payload;
    auto kept = payload.size() - staged_bytes_;
    auto begin = kept;
    const bool watched = tap_ != nullptr && tap_->watched();
    for (const auto& one : staged_) {
        const bool fresh = admit(one, origin);
        if (watched) show(*one.offered, std::string_view(payload).substr(begin, one.bytes - 1));
        if (fresh) {
            const auto from = payload.begin() + static_cast<std::ptrdiff_t>(begin);
            if (kept != begin) {
                std::copy_n(from, one.bytes, payload.begin() + static_cast<std::ptrdiff_t>(kept));
            }
            kept += one.bytes;
        }
        begin += one.bytes;
    }
    payload.resize(kept);
    staged_.clear();
    staged_bytes_ = 0;
}

bool Intake::admit(const Staged& event, const Origin& origin) {
    auto& offered = *event.offered;
    const auto verdict = index_.admit(event.id, event.content_hash, handed_ + 1);
    if (verdict.kind == admit::Verdict::Kind::duplicate) {
        ++burst_.totals.duplicates[index_of(verdict.duplicate)];
        offered.admission = Admission::duplicate;
        offered.duplicate = verdict.duplicate;
        offered.position = verdict.first_position;
        return false;
    }
    auto& segment = burst_.segment;
    offered.admission = Admission::accepted;
    offered.position = ++handed_;
    if (verdict.kind == admit::Verdict::Kind::maybe) {
        segment.maybe.push_back(
            {segment.count, offered.position, origin.kind == ListenerKind::http, event.call});
    } else {
        event.call.count();
    }
    if (segment.count == 0) segment.received_unix_ms = unix_ms(received_);
    segment.ids.push_back(event.id);
    ++segment.count;
    return true;
}

void Intake::reject(const parse::Rejection& rejection, const listen::Message& message,
                    const Origin& origin, listen::Offered& offered) {
    ++burst_.totals.rejected[index_of(rejection.reason)];
    offered.admission = Admission::rejected;
    offered.reject = rejection.reason;
    if (tap_ != nullptr && tap_->wants(observe::Sight::rejected)) {
        observe::Sighting seen{
            observe::Sight::rejected, origin.lane, std::string(to_string(rejection.reason)), 1, {}};
        seen.fields.id = rejection.id;
        seen.fields.provider = rejection.provider;
        seen.fields.model = rejection.model;
        tap_->see(std::move(seen));
    }
    if (origin.kind == ListenerKind::http) {
        offered.id = rejection.id;
        offered.field = rejection.field;
        offered.message = rejection.message;
    }
    if (!may_keep_dead_letter()) return;
    spool::DeadLetter letter;
    letter.kind = spool::DeadKind::admission;
    letter.lane = origin.lane;
    letter.unix_ms = unix_ms(received_);
    letter.reason = to_string(rejection.reason);
    letter.detail = rejection.field;
    if (!letter.detail.empty()) letter.detail += ": ";
    letter.detail += rejection.message;
    letter.source = to_string(origin.kind);
    letter.id = rejection.id;
    letter.provider = rejection.provider;
    letter.model = rejection.model;
    letter.bytes = std::max<std::uint64_t>(message.length, message.bytes.size());
    letter.hash =
        message.bytes.empty() ? 0 : XXH3_64bits(message.bytes.data(), message.bytes.size());
    letter.payload = rejection.payload;
    burst_.rejected.push_back(std::move(letter));
}

void Intake::shed(ShedReason reason, listen::Offered& offered) {
    ++burst_.totals.shed[index_of(reason)];
    offered.admission = Admission::shed;
    offered.shed = reason;
    if (tap_ != nullptr && tap_->wants(observe::Sight::shed)) {
        tap_->see(
            {observe::Sight::shed, burst_.segment.lane, std::string(to_string(reason)), 1, {}});
    }
}

void Intake::show(const listen::Offered& offered, std::string_view json) {
    const bool duplicate = offered.admission == Admission::duplicate;
    const auto sight = duplicate ? observe::Sight::duplicate : observe::Sight::accepted;
    if (!tap_->wants(sight)) return;
    tap_->see({sight,
               burst_.segment.lane,
               duplicate ? std::string(to_string(offered.duplicate)) : std::string(),
               1,
               {}},
              json);
}

bool Intake::may_keep_dead_letter() {
    if (!queue_.has_room() || !queue_.spool_open()) return false;
    const auto second = unix_ms(received_) / 1000;
    if (second != dead_letter_second_) {
        dead_letter_second_ = second;
        dead_letters_this_second_ = 0;
    }
    return dead_letters_this_second_++ < kDeadLettersPerSecond;
}

void Intake::count_repairs(std::uint32_t repairs) {
    for (std::size_t i = 0; repairs != 0; ++i, repairs >>= 1U) {
        if ((repairs & 1U) != 0) repairs_[i]->add();
    }
}

void Intake::hand_over() {
    burst_.last = handed_;
    if (queue_.push(burst_)) wake_storage_();
}

bool Intake::has_room() const { return queue_.has_room() && queue_.spool_open() && !failed_; }

asio::awaitable<void> Intake::wait_for_room() {
    const auto state = co_await asio::this_coro::cancellation_state;
    while (!has_room() && state.cancelled() == asio::cancellation_type::none) {
        co_await progress_.wait();
    }
}

asio::awaitable<Settled> Intake::settled(Position position, TimePoint due) {
    const auto state = co_await asio::this_coro::cancellation_state;
    while (position > durable_) {
        if (failed_) co_return Settled::given_up;
        if (clock_.now() >= due) co_return Settled::timed_out;
        // A graceful stop (total) still waits for the commit; only a hard one leaves.
        const auto cancelled = state.cancelled() & asio::cancellation_type::terminal;
        if (cancelled != asio::cancellation_type::none) co_return Settled::timed_out;
        co_await progress_.wait_until(due);
    }
    co_return struck_.contains(position) ? Settled::struck : Settled::durable;
}

void Intake::note_client_drops(std::uint64_t count) { client_dropped_.add(count); }

void Intake::configure(const parse::Options& options) { parser_.emplace(options, rng_); }

void Intake::recover_id(const IdHash& id) { index_.recover(id); }

void Intake::note_ids(spool::IdView view) {
    index_.set_filters(std::move(view.filters));
    if (view.covered) index_.drop_covered(*view.covered);
}

void Intake::note_struck(const std::vector<Position>& positions) {
    struck_.insert(positions.begin(), positions.end());
    while (struck_.size() > kStruckMax) struck_.erase(struck_.begin());
}

void Intake::note_settled(Position position) {
    durable_ = std::max(durable_, position);
    progress_.notify_all();
}

void Intake::note_failed() {
    failed_ = true;
    progress_.notify_all();
}

}  // namespace opsrelay
