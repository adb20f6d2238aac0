// How many requests a lane has in flight at once, as its upstream bears it. Pure: the pump reports
// what came back and asks for the limit.
//
// The limit begins at the most that is allowed and is lowered only for a reason:
//
//   429; 503 or a timeout twice in a round   by a quarter, once for all that was sent until then
//   replies take twice as long as of late    by half, as a trial
//
// What comes back from the only request in flight, such as a probe, is no such reason.
// A trial ends with the next round. When its replies come no sooner, the requests did not wait for
// each other: the limit is what it was, and the longer time is the normal one from then on. So an
// upstream that is merely slow is not sent less. A round that used the whole limit and gave no
// reason raises it by one. Thus additive increase and multiplicative decrease (Chiu and Jain, 1989)
// on what Vector's adaptive concurrency and Netflix's concurrency-limits look at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "forward/options.h"
#include "forward/retry.h"
#include "forward/upstream.h"

namespace opsrelay::forward {

/// What a reply says about the load upstream bears, in order of weight.
enum class Load : std::uint8_t {
    unknown,
    taken,     // delivered: the time it took counts
    strained,  // 503, or no reply in time: may be a fault like any other
    refused    // 429
};
[[nodiscard]] Load load_of(const Reply& reply, Verdict verdict) noexcept;

/// Thread: one.
class Concurrency {
public:
    /// Why the limit is another one now.
    enum class Change : std::uint8_t { none, raised, refused, slow, restored };

    /// Between 1 and `most`; of mode `fixed` always `most`.
    Concurrency(ConcurrencyMode mode, std::size_t most);

    /// Another `most`. A limit at the top stays there; what was learnt about times is forgotten.
    void set_most(std::size_t most);
    /// Requests that may be in flight.
    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
    /// A reply that came at `now` to what was sent at `sent`, one of `in_flight` requests.
    Change on_reply(Load load, TimePoint sent, TimePoint now, std::size_t in_flight);

private:
    [[nodiscard]] Change finish_round(TimePoint now);
    [[nodiscard]] Change end_trial(nanoseconds median);
    [[nodiscard]] Change refuse(TimePoint now);
    [[nodiscard]] bool is_slow(nanoseconds median) const noexcept;
    void note_median(nanoseconds median) noexcept;
    void begin_round() noexcept;
    [[nodiscard]] bool adaptive() const noexcept {
        return mode_ == ConcurrencyMode::adaptive && most_ > 1;
    }

    const ConcurrencyMode mode_;
    std::size_t most_ = 1;
    std::size_t limit_ = 1;
    TimePoint lowered_at_ = TimePoint::min();  // what was sent before says nothing any more

    // The round: so many replies that half of them saw this limit and nothing else.
    std::vector<nanoseconds> took_;  // at most 2 x most_
    bool used_ = false;              // as many requests as allowed were in flight
    unsigned strained_ = 0;

    // The fastest of the last 64 to 128 rounds' medians; max(): none yet.
    nanoseconds fastest_ = nanoseconds::max();
    nanoseconds fastest_before_ = nanoseconds::max();
    unsigned rounds_ = 0;

    unsigned slow_rounds_ = 0;  // in a row
    struct Trial {
        std::size_t limit;   // before it
        nanoseconds median;  // then
    };
    std::optional<Trial> trial_;
    unsigned hold_ = 0;       // rounds without a trial after the last one in vain
    unsigned hold_left_ = 0;  // of these
};

}  // namespace opsrelay::forward
