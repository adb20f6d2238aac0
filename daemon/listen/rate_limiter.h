// How much one peer may send, so that it leaves something for the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "core/clock.h"
#include "listen/peer.h"

namespace opsrelay::listen {

/// A token bucket for each peer of a listener: so many events a second, and as many at once. Pure;
/// bounded: beyond kPeersMax peers that are not idle, the others share one bucket. One thread.
class RateLimiter {
public:
    static constexpr std::size_t kPeersMax = 4'096;

    /// 0: no limit.
    explicit RateLimiter(std::uint32_t per_second) noexcept
        : cost_(per_second == 0 ? nanoseconds{0} : nanoseconds{seconds{1}} / per_second) {}

    [[nodiscard]] bool off() const noexcept { return cost_.count() == 0; }
    /// Takes room for one event. False: there is none, and nothing was taken.
    [[nodiscard]] bool take(const PeerKey& peer, TimePoint now);
    /// Takes room for events that cannot be refused any more. Returns when the peer may go on.
    [[nodiscard]] TimePoint take_ahead(const PeerKey& peer, std::uint64_t events, TimePoint now);

    [[nodiscard]] std::size_t peers() const noexcept { return full_at_.size(); }

private:
    // The room that a bucket has, all of it after one idle second.
    static constexpr nanoseconds kRoom{seconds{1}};

    [[nodiscard]] TimePoint& bucket(const PeerKey& peer, TimePoint now);

    nanoseconds cost_;                       // of one event
    std::map<PeerKey, TimePoint> full_at_;   // when the bucket has all its room again
    TimePoint swept_at_ = TimePoint::min();  // when idle peers were last forgotten
    TimePoint shared_full_at_{};             // of those that have no bucket of their own
};

}  // namespace opsrelay::listen
