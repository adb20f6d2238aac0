#include "core/signal.h"

#include "core/nothrow.h"

namespace opsrelay {

void Signal::notify_all() {
    ++generation_;
    for (auto& timer : waiters_) timer.cancel();
}

asio::awaitable<void> Signal::wait_since(std::uint64_t generation, TimePoint due) {
    if (generation != generation_ || due <= clock_.now()) co_return;
    const auto timer = waiters_.emplace(waiters_.end(), executor_, TimePoint::max());
    if (due != TimePoint::max()) clock_.arm(*timer, due);
    co_await timer->async_wait(nothrow);
    clock_.disarm(*timer);
    waiters_.erase(timer);
}

}  // namespace opsrelay
