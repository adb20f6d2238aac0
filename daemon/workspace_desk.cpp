#include "workspace_desk.h"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <utility>

namespace opsrelay {

WorkspaceDesk::WorkspaceDesk(asio::any_io_executor ingest, asio::any_io_executor forward,
                             Clock& clock, PlanStates& plans, Ask ask)
    : ingest_(std::move(ingest)),
      forward_(std::move(forward)),
      clock_(clock),
      plans_(plans),
      ask_(std::move(ask)),
      answered_(ingest_, clock) {}

bool WorkspaceDesk::fresh(LaneId lane) const {
    const auto answer = plans_.of(lane).workspace();
    return answer && answer->fresh(clock_.now());
}

asio::awaitable<void> WorkspaceDesk::refresh(LaneId lane, TimePoint due) {
    const auto stop = co_await asio::this_coro::cancellation_state;
    if (fresh(lane)) co_return;
    auto& asked = asked_[lane];  // stays where it is
    const auto now = clock_.now();
    if (!asked.under_way && now >= asked.next) {
        asked.under_way = true;
        asked.next = now + WorkspaceAnswer::kFreshFor;
        asio::post(forward_, [this, lane, &asked] {
            ask_(lane, [this, &asked] {
                asio::post(ingest_, [this, &asked] {
                    asked.under_way = false;
                    answered_.notify_all();
                });
            });
        });
    }
    while (asked.under_way && clock_.now() < due &&
           stop.cancelled() == asio::cancellation_type::none) {
        co_await answered_.wait_until(due);
    }
}

}  // namespace opsrelay
