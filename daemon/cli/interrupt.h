// Ctrl-C for commands that go on until they are told to end.
#pragma once

#include <csignal>

#include "core/clock.h"
#include "core/unique_fd.h"

namespace opsrelay::cli {

/// While it lives, SIGINT and SIGTERM do not end the process but are noted here; without a
/// descriptor to spare they end it as ever. Thread: the only one.
class Interrupt {
public:
    Interrupt();
    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;
    ~Interrupt();

    /// What other waits may wait for too, with poll(2): readable once a signal came.
    [[nodiscard]] int descriptor() const noexcept { return signals_.get(); }
    [[nodiscard]] bool came() const;
    /// True: a signal came before `due`.
    [[nodiscard]] bool wait_until(const Clock& clock, TimePoint due) const;

private:
    sigset_t before_{};
    UniqueFd signals_;
};

}  // namespace opsrelay::cli
