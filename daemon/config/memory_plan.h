// Pure: how memory.max_bytes is shared out among everything that grows with load.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/error.h"
#include "core/units.h"

namespace opsrelay::config {

/// What is known before the shares are: the other sizes of the configuration.
struct MemoryNeeds {
    Bytes max;              // memory.max_bytes
    Bytes stall_buffer;     // memory.stall_buffer
    std::uint64_t ids = 0;  // that are remembered at most
    std::size_t lanes = 1;
    std::size_t tls_connections = 8;  // to upstream, of all lanes
    std::size_t plain_connections = 0;
};

/// The shares. With the program itself, the lanes and their connections, the stall buffer and what
/// is being written they are at most the whole; heap that the allocator keeps for later is not part
/// of it.
struct MemoryPlan {
    Bytes write_buffers;        // RocksDB's memory tables; 6 to 32 MiB
    Bytes block_cache;          // 1 to 16 MiB
    Bytes filters;              // of remembered ids: one to two bytes each
    std::size_t table_ids = 0;  // of an exact table, at 48 bytes an id
};

/// Errors: config_invalid, when not even the least of each share fits, naming what would.
[[nodiscard]] Result<MemoryPlan> plan_memory(const MemoryNeeds& needs);

}  // namespace opsrelay::config
