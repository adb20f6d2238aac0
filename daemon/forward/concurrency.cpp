#include "forward/concurrency.h"

#include <algorithm>

namespace opsrelay::forward {

namespace {

constexpr std::size_t kRoundMin = 8;
constexpr unsigned kStrainedMax = 2;
constexpr unsigned kSlowRounds = 2;
// Below this a rise is the scheduling of two machines, not a queue.
constexpr milliseconds kSlowMin{5};
constexpr unsigned kWindowRounds = 64;
constexpr unsigned kHoldMin = 8;
constexpr unsigned kHoldMax = 1024;

}  // namespace

Load load_of(const Reply& reply, Verdict verdict) noexcept {
    constexpr int kServiceUnavailable = 503;
    if (verdict == Verdict::delivered) return Load::taken;
    if (verdict == Verdict::throttled) return Load::refused;
    const bool unavailable =
        reply.transport == Transport::ok && reply.status == kServiceUnavailable;
    return unavailable || reply.transport == Transport::timeout ? Load::strained : Load::unknown;
}

Concurrency::Concurrency(ConcurrencyMode mode, std::size_t most) : mode_(mode) { set_most(most); }

void Concurrency::set_most(std::size_t most) {
    const bool at_top = limit_ == most_;
    most_ = std::max<std::size_t>(most, 1);
    limit_ = at_top ? most_ : std::min(limit_, most_);
    if (adaptive()) took_.reserve(std::max(2 * most_, kRoundMin));
    begin_round();
    trial_.reset();
    slow_rounds_ = 0;
    fastest_ = nanoseconds::max();
    fastest_before_ = nanoseconds::max();
    rounds_ = 0;
}

Concurrency::Change Concurrency::on_reply(Load load, TimePoint sent, TimePoint now,
                                          std::size_t in_flight) {
    if (!adaptive() || load == Load::unknown || sent < lowered_at_) return Change::none;
    const bool alone = in_flight <= 1;  // as a probe is: then it was not one too many
    if (load != Load::taken && alone) return Change::none;
    if (load == Load::refused) return refuse(now);
    if (load == Load::strained) return ++strained_ < kStrainedMax ? Change::none : refuse(now);
    used_ = used_ || in_flight >= limit_;
    took_.push_back(now - sent);
    return took_.size() < std::max(2 * limit_, kRoundMin) ? Change::none : finish_round(now);
}

void Concurrency::begin_round() noexcept {
    took_.clear();
    used_ = false;
    strained_ = 0;
}

Concurrency::Change Concurrency::refuse(TimePoint now) {
    begin_round();
    trial_.reset();
    slow_rounds_ = 0;
    lowered_at_ = now;
    if (limit_ == 1) return Change::none;
    limit_ = limit_ * 3 / 4;
    return Change::refused;
}

bool Concurrency::is_slow(nanoseconds median) const noexcept {
    const auto usual = std::min(fastest_, fastest_before_);
    return usual != nanoseconds::max() && median > 2 * usual + kSlowMin;
}

void Concurrency::note_median(nanoseconds median) noexcept {
    fastest_ = std::min(fastest_, median);
    if (++rounds_ < kWindowRounds) return;
    rounds_ = 0;
    fastest_before_ = fastest_;
    fastest_ = nanoseconds::max();
}

Concurrency::Change Concurrency::finish_round(TimePoint now) {
    const auto middle = took_.begin() + static_cast<std::ptrdiff_t>(took_.size() / 2);
    std::nth_element(took_.begin(), middle, took_.end());
    const auto median = *middle;
    const bool used = used_;
    begin_round();
    if (trial_) return end_trial(median);
    const bool slow = is_slow(median);
    slow_rounds_ = slow && used ? slow_rounds_ + 1 : 0;
    note_median(median);
    if (hold_left_ > 0) --hold_left_;
    if (slow_rounds_ >= kSlowRounds && limit_ > 1 && hold_left_ == 0) {
        trial_ = Trial{limit_, median};
        limit_ /= 2;
        lowered_at_ = now;
        slow_rounds_ = 0;
        return Change::slow;
    }
    if (slow || !used || limit_ == most_) return Change::none;
    ++limit_;
    return Change::raised;
}

Concurrency::Change Concurrency::end_trial(nanoseconds median) {
    const auto before = *trial_;
    trial_.reset();
    // Half as many requests take half as long when it was each other that they waited for.
    if (4 * median < 3 * before.median) {
        note_median(median);
        hold_ = 0;
        return Change::none;
    }
    limit_ = before.limit;
    fastest_ = median;
    fastest_before_ = nanoseconds::max();
    rounds_ = 0;
    hold_ = std::clamp(2 * hold_, kHoldMin, kHoldMax);
    hold_left_ = hold_;
    return Change::restored;
}

}  // namespace opsrelay::forward
