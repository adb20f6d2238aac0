#include "cli/interrupt.h"

#include <poll.h>
#include <sys/signalfd.h>

#include "cli/connect.h"

namespace opsrelay::cli {

Interrupt::Interrupt() {
    sigset_t ours{};
    ::sigemptyset(&ours);
    ::sigaddset(&ours, SIGINT);
    ::sigaddset(&ours, SIGTERM);
    ::pthread_sigmask(SIG_SETMASK, nullptr, &before_);
    signals_ = UniqueFd(::signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK));
    if (signals_) ::pthread_sigmask(SIG_BLOCK, &ours, nullptr);
}

// What came and was noted here must not end the process now.
Interrupt::~Interrupt() {
    signalfd_siginfo taken{};
    while (signals_ && ::read(signals_.get(), &taken, sizeof taken) > 0) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool Interrupt::came() const {
    pollfd entry{signals_.get(), POLLIN, 0};
    return ::poll(&entry, 1, 0) == 1;
}

bool Interrupt::wait_until(const Clock& clock, TimePoint due) const {
    return wait_for(signals_.get(), POLLIN, clock, due).has_value();
}

}  // namespace opsrelay::cli
