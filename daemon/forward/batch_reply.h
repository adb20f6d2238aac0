// The reply to one batch request, taken apart.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "forward/upstream.h"

namespace opsrelay::forward {

/// A 2xx reply to a batch of `count` events, as replies to each of them in the batch's order:
/// `{"results":[{"index":0,"status":200,"reason":null},...]}`, in any order. Each has the status of
/// its result, and the result as body unless that is a plain success; a Retry-After of the whole
/// reply holds for all. An event without a result has transport `reset`: it is to be sent again. Of
/// two results for one event the first counts. nullopt: there are no results, so this was not the
/// batch endpoint.
[[nodiscard]] std::optional<std::vector<Reply>> read_batch_reply(const Reply& reply,
                                                                 std::size_t count);

}  // namespace opsrelay::forward
