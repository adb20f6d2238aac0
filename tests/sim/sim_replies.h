// The replies of a simulated upstream, and its Retry-After headers.
#pragma once

#include <string>

#include "core/clock.h"
#include "core/random.h"
#include "forward/upstream.h"
#include "sim/sim_marks.h"

namespace opsrelay::sim {

[[nodiscard]] forward::Reply http(int status, std::string body);
[[nodiscard]] forward::Reply broken(forward::Transport transport);
[[nodiscard]] forward::Reply accepted();
[[nodiscard]] forward::Reply plan_limited();
/// 200 with ok:false.
[[nodiscard]] forward::Reply ok_false(std::string_view reason);

/// What workspace-status says.
struct Workspace {
    bool paused = false;
    std::optional<WallTime> plan_period_end;
    std::optional<WallTime> budget_period_end;
};
[[nodiscard]] forward::Reply workspace_reply(const Workspace& workspace);

/// Puts a Retry-After of about `wait` into the reply, in `form`, and a Date where the server's
/// clock is off ours by `skew` (or at random). Returns how long a client must really wait.
milliseconds put_retry_after(forward::Reply& reply, RetryForm form, seconds wait, seconds skew,
                             WallTime our_wall, Rng& rng);

}  // namespace opsrelay::sim
