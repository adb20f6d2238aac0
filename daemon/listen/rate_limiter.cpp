#include "listen/rate_limiter.h"

#include <algorithm>

namespace opsrelay::listen {

TimePoint& RateLimiter::bucket(const PeerKey& peer, TimePoint now) {
    if (const auto found = full_at_.find(peer); found != full_at_.end()) return found->second;
    if (full_at_.size() >= kPeersMax && now - kRoom >= swept_at_) {
        std::erase_if(full_at_, [now](const auto& one) { return one.second <= now; });
        swept_at_ = now;
    }
    if (full_at_.size() >= kPeersMax) return shared_full_at_;
    return full_at_.emplace(peer, now).first->second;
}

bool RateLimiter::take(const PeerKey& peer, TimePoint now) {
    if (off()) return true;
    auto& full_at = bucket(peer, now);
    const auto after = std::max(full_at, now) + cost_;
    if (after > now + kRoom) return false;
    full_at = after;
    return true;
}

TimePoint RateLimiter::take_ahead(const PeerKey& peer, std::uint64_t events, TimePoint now) {
    if (off() || events == 0) return now;
    auto& full_at = bucket(peer, now);
    full_at = std::max(full_at, now) + cost_ * static_cast<std::int64_t>(events);
    return std::max(now, full_at - kRoom);
}

}  // namespace opsrelay::listen
