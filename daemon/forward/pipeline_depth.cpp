#include "forward/pipeline_depth.h"

#include <algorithm>

namespace opsrelay::forward {

namespace {

constexpr std::size_t kProvenRounds = 4;
constexpr unsigned kWastedMax = 2;

}  // namespace

void PipelineDepth::note_end(const ConnectionEnd& end, TimePoint now) {
    using How = ConnectionEnd::How;
    if (depth_ == 1) return;
    const auto proven = kProvenRounds * depth_;
    switch (end.how) {
        case How::by_us: return;
        case How::not_http:
            if (end.piped > 0) fall_back("what came is not HTTP", now);
            return;
        case How::broken:
        case How::silent:
            if (end.piped == 0 || end.answered_before >= proven) return;
            return fall_back(end.how == How::silent ? "no answer in time" : "a connection broke",
                             now);
        case How::closed:
        case How::said_so: break;
    }
    if (end.answered >= proven) {
        wasted_ = 0;
    } else if (end.piped > 0 || end.how == How::said_so) {
        if (++wasted_ >= kWastedMax) fall_back("connections are closed after few replies", now);
    }
}

void PipelineDepth::note_time(TimePoint now) {
    if (now < retry_at_) return;
    depth_ = most_;
    cause_ = {};
    retry_at_ = TimePoint::max();
    raised_at_ = now;
}

void PipelineDepth::fall_back(std::string_view cause, TimePoint now) {
    const bool soon = pause_ > nanoseconds::zero() && now - raised_at_ < pause_;
    pause_ = soon ? std::min<nanoseconds>(2 * pause_, kPauseMax) : nanoseconds(kPauseMin);
    depth_ = 1;
    wasted_ = 0;
    cause_ = cause;
    retry_at_ = now + pause_;
}

}  // namespace opsrelay::forward
