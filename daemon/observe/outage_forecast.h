// How long the spool would last if upstream took nothing more.
#pragma once

#include <deque>

#include "core/clock.h"
#include "core/units.h"

namespace opsrelay::observe {

/// Pure. From what was written to the spool in the last minutes and the room that is left.
class OutageForecast {
public:
    /// What the rate is taken from.
    static constexpr seconds kWindow{300};
    /// Samples are at least so far apart, which bounds their number.
    static constexpr seconds kSampleEvery{10};

    /// `written`: bytes that new events took in the spool, since the process began; never goes
    /// down. `now` neither.
    void note(TimePoint now, Bytes written);

    /// Infinity: nothing was written in the window, or there is no window yet.
    [[nodiscard]] double seconds_left(Bytes room) const noexcept;

private:
    struct Sample {
        TimePoint at;
        Bytes written;
    };
    std::deque<Sample> samples_;  // the oldest first; the newest moves until it is kSampleEvery old
};

}  // namespace opsrelay::observe
