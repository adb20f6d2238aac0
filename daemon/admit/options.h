// How many ids are remembered.
#pragma once

#include <cstddef>

namespace opsrelay::admit {

struct Options {
    /// The newest ids that are remembered. At 24 bytes an id and a load of at most 0.5 the tables
    /// take up to 48 bytes an id; they start small and double.
    std::size_t ids_max = 262'144;
};

}  // namespace opsrelay::admit
