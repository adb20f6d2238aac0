// The API's JSON bodies, in the documented shapes. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "upstream/settings.h"
#include "upstream/workspace.h"

namespace opsrelay::upstream {

/// A status and its JSON body.
struct Answer {
    int status = 200;
    std::string body;
};
/// The reply to one ingest request; `after` is the state after it.
[[nodiscard]] Answer answer_of(const Outcome& outcome, const Behaviour& behaviour,
                               const PlanAndBudget& after);

/// The place of one item in the reply to a batch.
struct ItemResult {
    int status = 200;
    std::string reason;  // empty: null
};
[[nodiscard]] ItemResult result_of(const Outcome& outcome, const Behaviour& behaviour);
/// {"results":[{"index":0,"status":200,"reason":null},...]}
[[nodiscard]] std::string results_json(const std::vector<ItemResult>& results);
/// As results_json, the last item first.
[[nodiscard]] std::string reversed_results_json(const std::vector<ItemResult>& results);

[[nodiscard]] std::string plan_limit_json(const Behaviour& behaviour, const PlanAndBudget& state);
/// `reason` empty: the one of the settings.
[[nodiscard]] std::string budget_stop_json(const Behaviour& behaviour, std::string_view reason);
/// GET workspace-status. `now` fills periods that are not set.
[[nodiscard]] std::string status_json(const Behaviour& behaviour, const PlanAndBudget& state,
                                      WallTime now);
/// {"ok":false,"reason":…,"warnings":[]}, the shape of 401 and of replies that have no other.
[[nodiscard]] std::string refusal_json(std::string_view reason);
/// The 429 body, which has two fields more.
[[nodiscard]] std::string throttled_json(std::string_view reason);
/// The 400 and 422 body.
[[nodiscard]] std::string invalid_json(std::string_view reason,
                                       const std::vector<FieldError>& errors);

}  // namespace opsrelay::upstream
