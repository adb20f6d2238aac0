#include "config/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/fields.h"
#include "spool/options.h"

namespace opsrelay::config {

namespace {

constexpr Bytes kProgram = 13_MiB;  // code, threads, clients, RocksDB's own, what OpenSSL trusts
constexpr Bytes kCommit = 2_MiB;    // the segments being written and read
// Of each lane beyond the first: the segment that it reads, and its memory tables' least.
constexpr Bytes kLane = 512_KiB;
// Measured with 64 of each. TLS: OpenSSL's state, the chain of the peer, Asio's four buffers.
constexpr Bytes kTlsConnection = 112_KiB;
constexpr Bytes kPlainConnection = 32_KiB;
constexpr Bytes kWriteBuffersMin = 6_MiB;
constexpr Bytes kBlockCacheMin = 1_MiB;
constexpr Bytes kBlockCacheMax = 16_MiB;
constexpr std::uint64_t kFilterBytesPerId = 1;  // the least: 8 bits

// Ids that are in no run: durable ones, up to spool::IdKeeper::kUnsealedSeals tables full and a
// group more, which the keeper of runs holds too; those of events that wait for the disk; and a
// table of which a part is filled.
constexpr std::uint64_t kDurableTables = 5;
constexpr std::uint64_t kFillingTables = 1;
constexpr std::uint64_t kEventBytesMin = 128;   // few are smaller, as each waits with its id
constexpr std::uint64_t kBytesPerTableId = 48;  // 24 at half load
constexpr std::uint64_t kBytesPerKeptId = 16;

// Large tables make fewer runs, and take a quarter of what there is at most.
constexpr std::array<std::size_t, 4> kTableIds{65'536, 32'768, 16'384, 8192};
constexpr std::uint64_t kTablesPart = 4;

Bytes exact_ids(std::size_t table_ids, Bytes stall_buffer) noexcept {
    const auto durable = kDurableTables * table_ids;
    const auto waiting = stall_buffer.count / kEventBytesMin;
    const auto in_tables = durable + waiting + kFillingTables * table_ids;
    return {in_tables * kBytesPerTableId + durable * kBytesPerKeptId};
}

// What everything takes at least, with tables of that many ids.
Bytes least_for(const MemoryNeeds& needs, std::size_t table_ids) noexcept {
    // What waits lies in buffers that are not full to the last byte.
    const Bytes waiting{needs.stall_buffer.count + needs.stall_buffer.count / 4};
    const Bytes upstream{(needs.lanes - 1) * kLane.count +
                         needs.tls_connections * kTlsConnection.count +
                         needs.plain_connections * kPlainConnection.count};
    return kProgram + kCommit + upstream + waiting + exact_ids(table_ids, needs.stall_buffer) +
           Bytes{needs.ids * kFilterBytesPerId} + kWriteBuffersMin + kBlockCacheMin;
}

std::size_t table_ids_for(const MemoryNeeds& needs) noexcept {
    const auto* const found = std::find_if(kTableIds.begin(), kTableIds.end(), [&](auto ids) {
        return exact_ids(ids, needs.stall_buffer).count * kTablesPart <= needs.max.count &&
               least_for(needs, ids) <= needs.max;
    });
    return found == kTableIds.end() ? kTableIds.back() : *found;
}

Bytes up_to_a_mebibyte(Bytes bytes) { return {(bytes.count + (1_MiB).count - 1) >> 20U << 20U}; }

}  // namespace

Result<MemoryPlan> plan_memory(const MemoryNeeds& needs) {
    MemoryPlan plan;
    plan.table_ids = table_ids_for(needs);
    plan.filters = Bytes{needs.ids * kFilterBytesPerId};
    plan.write_buffers = kWriteBuffersMin;
    plan.block_cache = kBlockCacheMin;
    const auto least = least_for(needs, plan.table_ids);
    if (least > needs.max) {
        return Error{
            Errc::config_invalid,
            fmt::format("memory.max_bytes: {} is too little for {} ids (dedupe.max_ids), "
                        "memory.stall_buffer {} and {} with {} connections; at least {}",
                        format_bytes(needs.max), needs.ids, format_bytes(needs.stall_buffer),
                        needs.lanes == 1 ? "a lane" : fmt::format("{} lanes", needs.lanes),
                        needs.tls_connections + needs.plain_connections,
                        format_bytes(up_to_a_mebibyte(least)))};
    }
    auto left = needs.max - least;
    const auto give = [&left](Bytes& share, Bytes more) {
        share += more;
        left = left - more;
    };
    give(plan.filters, std::min(plan.filters, Bytes{left.count * 6 / 10}));
    give(plan.write_buffers,
         std::min(spool::kWriteBuffersMax - plan.write_buffers, Bytes{left.count * 3 / 4}));
    give(plan.block_cache, std::min(kBlockCacheMax - plan.block_cache, left));
    return plan;
}

}  // namespace opsrelay::config
