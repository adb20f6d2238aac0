// What upstream says of a lane's workspace, fetched when an HTTP client asks for it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <map>

#include "core/clock.h"
#include "core/event.h"
#include "core/plan_state.h"
#include "core/signal.h"

namespace opsrelay {

/// Asks at most once in WorkspaceAnswer::kFreshFor and lane, after a failure too, however many
/// clients want to know: they wait for the same answer. Thread: ingest. Outlives both threads'
/// work.
class WorkspaceDesk {
public:
    /// On the forward thread: asks for a lane's status and calls `done` once, there, when PlanState
    /// has it or there will be none.
    using Ask = std::function<void(LaneId lane, std::function<void()> done)>;

    WorkspaceDesk(asio::any_io_executor ingest, asio::any_io_executor forward, Clock& clock,
                  PlanStates& plans, Ask ask);

    /// Returns once the lane's PlanState has a fresh answer, or it is certain that
    /// none comes, or at `due`, or when the caller is cancelled.
    [[nodiscard]] asio::awaitable<void> refresh(LaneId lane, TimePoint due);

private:
    struct Asked {
        bool under_way = false;
        TimePoint next{};  // not before
    };
    [[nodiscard]] bool fresh(LaneId lane) const;

    asio::any_io_executor ingest_;
    asio::any_io_executor forward_;
    Clock& clock_;
    PlanStates& plans_;
    const Ask ask_;
    std::map<LaneId, Asked> asked_;
    Signal answered_;
};

}  // namespace opsrelay
