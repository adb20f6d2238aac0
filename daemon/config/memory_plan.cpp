#include "config/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "config/fields.h"

namespace opsrelay::config {

namespace {

constexpr Bytes kProgram = 14_MiB;  // code, threads, connections, RocksDB's own
constexpr Bytes kCommit = 2_MiB;    // the segments being written and read
constexpr Bytes kWriteBuffersMin = 6_MiB;
constexpr Bytes kWriteBuffersMax = 32_MiB;
constexpr Bytes kBlockCacheMin = 1_MiB;
constexpr Bytes kBlockCacheMax = 16_MiB;
constexpr Bytes kRoomy = 48_MiB;
constexpr std::size_t kTableIds = 65'536;
constexpr std::size_t kTableIdsWhenTight = 16'384;
constexpr std::uint64_t kTables = 4;            // the one that fills, the rest on their way to runs
constexpr std::uint64_t kBytesPerTableId = 48;  // 24 at half load
constexpr std::uint64_t kFilterBytesPerId = 1;  // the least: 8 bits

Bytes up_to_a_mebibyte(Bytes bytes) { return {(bytes.count + (1_MiB).count - 1) >> 20U << 20U}; }

}  // namespace

Result<MemoryPlan> plan_memory(const MemoryNeeds& needs) {
    MemoryPlan plan;
    plan.table_ids = needs.max >= kRoomy ? kTableIds : kTableIdsWhenTight;
    plan.filters = Bytes{needs.ids * kFilterBytesPerId};
    plan.write_buffers = kWriteBuffersMin;
    plan.block_cache = kBlockCacheMin;
    // What waits lies in buffers that are not full to the last byte.
    const Bytes waiting{needs.stall_buffer.count + needs.stall_buffer.count / 4};
    const auto least = kProgram + kCommit + waiting +
                       Bytes{kTables * kBytesPerTableId * plan.table_ids} + plan.filters +
                       plan.write_buffers + plan.block_cache;
    if (least > needs.max) {
        return Error{
            Errc::config_invalid,
            fmt::format("memory.max_bytes: {} is too little for {} ids (dedupe.max_ids) "
                        "and memory.stall_buffer {}; at least {}",
                        format_bytes(needs.max), needs.ids, format_bytes(needs.stall_buffer),
                        format_bytes(up_to_a_mebibyte(least)))};
    }
    auto left = needs.max - least;
    const auto give = [&left](Bytes& share, Bytes more) {
        share += more;
        left = left - more;
    };
    give(plan.filters, std::min(plan.filters, Bytes{left.count * 6 / 10}));
    give(plan.write_buffers,
         std::min(kWriteBuffersMax - plan.write_buffers, Bytes{left.count * 3 / 4}));
    give(plan.block_cache, std::min(kBlockCacheMax - plan.block_cache, left));
    return plan;
}

}  // namespace opsrelay::config
