// How a pump sends: one record a request or a batch of them, and what becomes of each.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/assert.h"
#include "forward/batch_reply.h"
#include "forward/dead_letter.h"
#include "forward/plan_memo.h"
#include "forward/pump.h"

namespace opsrelay::forward {

namespace {

constexpr std::size_t kErrorTextMax = 256;
// A batch of one event may have as many.
constexpr Bytes kBatchBytesMin{64U << 10U};

std::string describe(const Reply& reply, Verdict verdict) {
    std::string text;
    if (reply.transport != Transport::ok) {
        text = fmt::format("{}: {}", to_string(reply.transport), reply.error);
    } else {
        text = fmt::format("HTTP {}", reply.status);
        if (verdict == Verdict::not_the_api) text += " with a body that is not the API's JSON";
    }
    if (text.size() > kErrorTextMax) text.resize(kErrorTextMax);
    return text;
}

std::string cause_of(const Reply& reply, Verdict verdict) {
    return verdict == Verdict::delivered ? std::string() : describe(reply, verdict);
}

// What an operator has to change when a batch as a whole is refused for its form.
std::string cause_of_whole(const Reply& reply, Verdict verdict, const Options& options) {
    constexpr int kUnsupportedMediaType = 415;  // RFC 9110, 15.5.16
    auto cause = cause_of(reply, verdict);
    const bool form = options.kind == UpstreamKind::batch && reply.status == kUnsupportedMediaType;
    if (verdict != Verdict::misconfigured || !form) return cause;
    return fmt::format("{}: upstream does not take batch_compression {} or batch_format {}", cause,
                       to_string(options.batch.coding), to_string(options.batch.format));
}

Attempt attempt_of(const Item& item, const std::optional<spool::DeadLetter>& letter,
                   Verdict verdict) {
    const bool rejected = verdict == Verdict::rejected;
    const auto hash = rejected ? content_hash(item.payload) : 0;
    return {item.seq, hash, item.failures, !rejected || letter.has_value()};
}

observe::Sight sight_of(Fate fate) {
    switch (fate) {
        case Fate::delivered: return observe::Sight::delivered;
        case Fate::dead_letter: return observe::Sight::dead;
        case Fate::again: break;
    }
    return observe::Sight::retried;
}

}  // namespace

bool Pump::gather(TimePoint now, TimePoint& until) {
    const auto& batch = options_.batch;
    std::size_t count_max = batch.events_max;
    for (const auto& item : gathered_) count_max = std::min(count_max, item.company_max);
    bool full = gathered_.size() >= count_max;
    while (!full) {
        auto item = batcher_.next(now);
        if (!item) break;
        // As in the body: what parts the events, and the array's other bracket, count too.
        const auto bytes = gathered_bytes_ + Bytes{item->payload.size() + 1};
        const bool fits = gathered_.size() < item->company_max && bytes < batch_bytes_max_;
        if (!gathered_.empty() && !fits) {
            batcher_.put_back(std::move(*item), now);
            full = true;
            break;
        }
        if (gathered_.empty()) gathered_until_ = now + (draining_ ? milliseconds{0} : batch.linger);
        count_max = std::min(count_max, item->company_max);
        gathered_bytes_ = bytes;
        gathered_.push_back(std::move(*item));
        full = gathered_.size() >= count_max || bytes + Bytes{1} >= batch_bytes_max_;
    }
    if (gathered_.empty()) {
        until = batcher_.next_due();
        return false;
    }
    // What is waited for must be able to come.
    full = full || batcher_.exhausted();
    if (!full && !draining_ && now < gathered_until_) {
        until = std::min(gathered_until_, batcher_.next_due());
        return false;
    }
    gathered_bytes_ = {};
    return true;
}

void Pump::scatter() {
    for (auto& item : gathered_) batcher_.put_back(std::move(item), clock_.now());
    gathered_.clear();
    gathered_bytes_ = {};
}

// Goes on with the next request as long as there is one: a coroutine and a wake-up less for each.
asio::awaitable<void> Pump::send(Work first) {
    std::optional<Work> work = std::move(first);
    while (work) {
        const auto began = work->sent;
        Reply reply;
        if (options_.kind == UpstreamKind::batch) {
            std::vector<std::string_view> events;
            events.reserve(work->items.size());
            for (const auto& item : work->items) events.push_back(item.payload);
            reply = co_await upstream_.send_batch(events, began + options_.timeout);
        } else {
            reply = co_await upstream_.send(work->items.front().payload, began + options_.timeout);
        }
        if (aborting_ && reply.transport != Transport::ok) co_return take_back(std::move(*work));
        count_request(reply, began);
        follow_pipelining();
        if (reply.transport == Transport::unanswered) {
            take_back(std::move(*work));
        } else if (options_.kind == UpstreamKind::batch) {
            on_batch_reply(std::move(*work), reply);
        } else {
            on_reply(std::move(*work), reply);
        }
        note_lane();
        auto until = TimePoint::max();
        work = next_work(until);
        go_on();
    }
}

// No limit on how often: each connection that ends so had at least one reply or failure, and
// PipelineDepth sees to it that it had many, or that there is none behind it any more.
void Pump::take_back(Work work) {
    lane_.on_abandoned(work.ticket);
    for (auto& item : work.items) put_back(std::move(item), clock_.now());
}

asio::awaitable<void> Pump::check_status(Ticket ticket) {
    const auto began = clock_.now();
    const auto reply = co_await upstream_.workspace_status(began + options_.timeout);
    if (aborting_ && reply.transport != Transport::ok) {
        lane_.on_abandoned(ticket);
        co_return;
    }
    const auto status = take_status(reply, began);
    lane_.on_status(ticket, status, moment());
    note_lane();
    changed_.notify_all();
}

WorkspaceStatus Pump::take_status(const Reply& reply, TimePoint began) {
    count_request(reply, began);
    auto status = read_workspace_status(reply);
    if (status.readable) {
        update_plan(status.plan);
        plan_.set_workspace({reply.body, clock_.now()});
    } else {
        last_error_ = fmt::format("workspace-status: {}", describe(reply, Verdict::not_the_api));
    }
    return status;
}

void Pump::ask_status(std::function<void()> done) {
    const auto state = lane_.state();
    const bool answers = state == LaneState::active || state == LaneState::plan_limited ||
                         state == LaneState::budget_stopped || state == LaneState::dead_full;
    if (stopping_ || !answers) return done();
    timers_.spawn("workspace status", read_status(std::move(done)));
}

// Says nothing about the lane: a client may ask whatever state it is in.
asio::awaitable<void> Pump::read_status(std::function<void()> done) {
    const auto began = clock_.now();
    const auto reply = co_await upstream_.workspace_status(began + options_.timeout);
    if (!stopping_) {
        const auto status = take_status(reply, began);
        static_cast<void>(status);
        note_lane();
    }
    done();
}

void Pump::on_reply(Work work, const Reply& reply) {
    const auto at = moment();
    auto decision = classify(reply, at.wall);
    note_load(load_of(reply, decision.verdict), work.sent);
    update_plan(decision.plan);
    take_whole(std::move(work), reply, std::move(decision), at);
}

void Pump::take_whole(Work work, const Reply& reply, Decision decision, Moment at) {
    auto cause = cause_of_whole(reply, decision.verdict, options_);
    if (!cause.empty()) last_error_ = cause;
    const auto least =
        std::min_element(work.items.begin(), work.items.end(),
                         [](const Item& a, const Item& b) { return a.failures < b.failures; });
    // A refusal of several events was split: here there is one.
    auto letter = prepare_letter(*least, reply, decision.verdict, at);
    const auto attempt = attempt_of(*least, letter, decision.verdict);
    const auto effect = lane_.on_reply(work.ticket, attempt, decision, cause, at);
    const auto count = work.items.size();
    for (auto& item : work.items) {
        // One of them may be why all fail.
        if (effect.failed && count > 1) item.company_max = count / 2;
        take_effect(std::move(item), reply, effect, decision.verdict,
                    std::exchange(letter, std::nullopt), at);
    }
    put_back_.insert(put_back_.end(), effect.put_back.begin(), effect.put_back.end());
}

void Pump::on_batch_reply(Work work, const Reply& reply) {
    const auto at = moment();
    auto whole = classify(reply, at.wall);
    if (whole.verdict != Verdict::delivered) {
        note_load(load_of(reply, whole.verdict), work.sent);
        update_plan(whole.plan);
        if (whole.verdict == Verdict::rejected && work.items.size() > 1) {
            return split(std::move(work), reply, at);
        }
        return take_whole(std::move(work), reply, std::move(whole), at);
    }
    const auto replies = read_batch_reply(reply, work.items.size());
    if (!replies) {
        whole.verdict = Verdict::not_the_api;
        return take_whole(std::move(work), reply, std::move(whole), at);
    }
    auto plan = plan_fields_;
    whole.plan.apply_to(plan);
    auto load = Load::unknown;
    std::vector<Judged> judged;
    std::vector<std::optional<spool::DeadLetter>> letters;
    judged.reserve(work.items.size());
    letters.reserve(work.items.size());
    for (std::size_t i = 0; i < work.items.size(); ++i) {
        auto decision = classify((*replies)[i], at.wall);
        const auto verdict = decision.verdict;
        load = std::max(load, load_of((*replies)[i], verdict));
        if (verdict != Verdict::delivered) decision.plan.apply_to(plan);
        letters.push_back(prepare_letter(work.items[i], (*replies)[i], verdict, at));
        judged.push_back({attempt_of(work.items[i], letters.back(), verdict), std::move(decision),
                          cause_of((*replies)[i], verdict)});
        if (!judged.back().cause.empty()) last_error_ = judged.back().cause;
    }
    set_plan(std::move(plan));
    note_load(load, work.sent);
    const auto effects = lane_.on_batch(work.ticket, judged, at);
    for (std::size_t i = 0; i < work.items.size(); ++i) {
        const auto& effect = effects[i];
        take_effect(std::move(work.items[i]), (*replies)[i], effect, judged[i].decision.verdict,
                    std::move(letters[i]), at);
        put_back_.insert(put_back_.end(), effect.put_back.begin(), effect.put_back.end());
    }
}

void Pump::note_load(Load load, TimePoint sent) {
    const auto before = concurrency_.limit();
    const auto change = concurrency_.on_reply(load, sent, clock_.now(), lane_.in_flight());
    const bool lowered =
        change == Concurrency::Change::refused || change == Concurrency::Change::slow;
    if (lowered) log_concurrency(change, before);
}

void Pump::split(Work work, const Reply& reply, Moment at) {
    constexpr int kContentTooLarge = 413;  // RFC 9110, 15.5.14
    lane_.on_abandoned(work.ticket);
    const auto count = work.items.size();
    Bytes bytes;
    for (auto& item : work.items) {
        bytes += Bytes{item.payload.size()};
        item.company_max = count / 2;
        retries_[index_of(Verdict::rejected)]->add();
        batcher_.put_back(std::move(item), at.now);
    }
    if (reply.status == kContentTooLarge) {
        batch_bytes_max_ =
            std::min(batch_bytes_max_, std::max(Bytes{bytes.count / 2}, kBatchBytesMin));
    }
    last_error_ = describe(reply, Verdict::rejected);
    log_split(reply, count, bytes);
}

std::optional<spool::DeadLetter> Pump::prepare_letter(const Item& item, const Reply& reply,
                                                      Verdict verdict, Moment at) {
    if (verdict != Verdict::rejected) return std::nullopt;
    auto letter = make_dead_letter(item.payload, reply, at.wall);
    if (!settler_.take_dead_room(letter)) return std::nullopt;
    return letter;
}

void Pump::take_effect(Item item, const Reply& reply, const Effect& effect, Verdict verdict,
                       std::optional<spool::DeadLetter> letter, Moment at) {
    if (letter && effect.fate != Fate::dead_letter) settler_.give_back_dead_room(*letter);
    show(item, reply, effect.fate);
    switch (effect.fate) {
        case Fate::delivered:
            late_.note_delivered(item.received_unix_ms, unix_ms(at.wall));
            ends_.push_back(
                {.seq = item.seq, .delivered = true, .dead = {}, .was_deferred = item.deferred});
            break;
        case Fate::dead_letter:
            OPSRELAY_ASSERT(letter.has_value());
            ends_.push_back({.seq = item.seq,
                             .delivered = false,
                             .dead = std::move(*letter),
                             .was_deferred = item.deferred});
            log_rejection(item.seq, reply);
            break;
        case Fate::again:
            retries_[index_of(verdict)]->add();
            if (effect.failed) ++item.failures;
            if (effect.failed && (item.deferred || is_stuck(item))) {
                defer(std::move(item), effect.delay, at);
                break;
            }
            // Else the line about the state says it.
            if (lane_.state() == shown_) log_failure(verdict);
            put_back(std::move(item), at.now + effect.delay);
            break;
    }
}

void Pump::show(const Item& item, const Reply& reply, Fate fate) const {
    const auto sight = sight_of(fate);
    if (tap_ == nullptr || !tap_->wants(sight)) return;
    const auto reason = fate == Fate::delivered ? std::string() : describe_code(reply);
    tap_->see({sight, name_.lane, reason, 1, {}}, item.payload);
}

bool Pump::is_stuck(const Item& item) const {
    return item.failures >= kStuckFailures && lane_.state() == LaneState::active;
}

void Pump::put_back(Item item, TimePoint due) {
    if (item.deferred) {
        due_ = std::move(item);  // as soon as the lane permits
    } else {
        batcher_.put_back(std::move(item), due);
    }
}

void Pump::count_request(const Reply& reply, TimePoint began) {
    const int status = reply.transport == Transport::ok ? reply.status : 0;
    if (status == 0 || status != last_status_) {  // usually the same as before
        const auto code = describe_code(reply);
        auto found = requests_.find(code);
        if (found == requests_.end()) {
            auto& counter = registry_.counter(observe::kUpstreamRequests, name_.name, code);
            found = requests_.emplace(code, &counter).first;
        }
        last_status_ = status;
        last_counter_ = found->second;
    }
    last_counter_->add();
    seconds_.observe(std::chrono::duration<double>(clock_.now() - began).count());
}

void Pump::update_plan(const PlanUpdate& update) {
    auto fields = plan_fields_;
    update.apply_to(fields);
    set_plan(std::move(fields));
}

void Pump::set_plan(PlanFields fields) {
    if (fields == plan_fields_) return;
    plan_fields_ = fields;
    plan_gauges_.show(fields);
    memo_ = encode_plan(fields);
    settleable_.notify_all();
    plan_.set(std::move(fields));
}

}  // namespace opsrelay::forward
