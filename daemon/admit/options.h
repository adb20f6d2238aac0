// How many ids a table in memory holds.
#pragma once

#include <cstddef>

namespace opsrelay::admit {

struct Options {
    /// Ids in one table; then the next one begins. At 24 bytes an id and a load of at most 0.5 a
    /// full one takes 3 MiB. Two or three exist at a time, seven at most while runs are merged: one
    /// is dropped when its ids are in a run.
    std::size_t table_ids = 65'536;
};

}  // namespace opsrelay::admit
