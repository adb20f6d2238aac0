// What a fault does to the reply of an ingest request.
#pragma once

#include "upstream/faults.h"
#include "upstream/replies.h"
#include "upstream/service.h"

namespace opsrelay::upstream {

/// True when the request is processed although the fault is due.
[[nodiscard]] bool stores(const Fault& fault);

/// Changes `reply`, which is that of the processed request if stores(fault), else empty.
void apply_fault(const Fault& fault, const Behaviour& behaviour, const PlanAndBudget& state,
                 WallTime now, Reply& reply);

/// The result of an item that `fault` refuses: not `ok`.
[[nodiscard]] ItemResult fault_result(const Fault& fault, const Behaviour& behaviour);

}  // namespace opsrelay::upstream
