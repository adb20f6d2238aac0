#include "listen/connection_budget.h"

#include <algorithm>

namespace opsrelay::listen {

std::size_t affordable_connections(std::size_t wanted, rlim_t descriptors_max) noexcept {
    if (descriptors_max == RLIM_INFINITY) return wanted;
    const rlim_t left = descriptors_max > kDescriptorsKept ? descriptors_max - kDescriptorsKept : 0;
    return std::min<std::size_t>(wanted, std::max<rlim_t>(left, kConnectionsMin));
}

}  // namespace opsrelay::listen
