// How many requests one connection carries before the reply to the first one, as the upstream, and
// what stands before it, bears it (RFC 9112 9.3.2). Pure: the pool reports how connections ended
// and asks for the depth.
//
// It begins as configured and falls to 1 when pipelining is the likely reason for an end:
//
//   bytes that are not HTTP                                 at once
//   reset, cut or silent, before it had answered 4 x depth  at once
//   requests that others waited behind
//   closed by the peer, before it had answered 4 x depth    the second time in a row
//   requests, though more were there or it said so itself
//
// only where a request was under way behind another one. A connection that did more than that has
// shown that pipelining works, and ended for a reason of its own: an upstream that restarts, or
// closes each connection after so many requests, keeps its depth.
//
// After a pause the depth is tried again: ten minutes, doubled up to a day while the trials fail
// sooner than the pause before them was long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/clock.h"

namespace opsrelay::forward {

/// How a connection came to its end.
struct ConnectionEnd {
    enum class How : std::uint8_t {
        by_us,    // cancelled, or given up
        closed,   // by the peer, between replies
        said_so,  // the same, and the last reply said that it would
        broken,   // within a reply, or before the first one
        silent,   // a deadline passed
        not_http
    };
    How how = How::by_us;
    std::size_t answered = 0;         // replies that came
    std::size_t answered_before = 0;  // of these, while another request waited behind
    std::size_t piped = 0;            // requests lost with it that were sent behind another one
};

/// Thread: one.
class PipelineDepth {
public:
    static constexpr minutes kPauseMin{10};
    static constexpr hours kPauseMax{24};

    /// `most` is at least 1; 1: never more.
    explicit PipelineDepth(unsigned most) noexcept : most_(most), depth_(most) {}

    /// Requests that one connection may carry.
    [[nodiscard]] unsigned depth() const noexcept { return depth_; }
    void note_end(const ConnectionEnd& end, TimePoint now);
    /// Ends the pause when it is over.
    void note_time(TimePoint now);
    /// Why it was lowered; "" while it is as configured.
    [[nodiscard]] std::string_view cause() const noexcept { return cause_; }
    /// When it is raised again; max() while it is as configured.
    [[nodiscard]] TimePoint retry_at() const noexcept { return retry_at_; }

private:
    void fall_back(std::string_view cause, TimePoint now);

    const unsigned most_;
    unsigned depth_;
    unsigned wasted_ = 0;  // connections in a row that the peer closed too soon
    std::string_view cause_;
    TimePoint retry_at_ = TimePoint::max();
    nanoseconds pause_{0};   // the last one; 0: there was none
    TimePoint raised_at_{};  // when it ended
};

}  // namespace opsrelay::forward
