// Deferred records in the database. Used by RocksStore and the offline tools.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/error.h"
#include "core/event.h"
#include "spool/deferred.h"
#include "spool/rocks_state.h"
#include "spool/store.h"

namespace rocksdb {
class WriteBatch;
}

namespace opsrelay::spool {

class RocksHandle;

/// Store::deferred_limits().
[[nodiscard]] DeferredLimits limits_of(const Options& options) noexcept;

/// Adds what the ack says of deferred records to the batch.
void put_deferred(const RocksHandle& handle, rocksdb::WriteBatch& batch, const LaneBook& book,
                  const Ack& ack);
/// The batch is written.
void note_deferred(LaneBook& book, const Ack& ack);

/// Store::read_deferred().
[[nodiscard]] Result<std::optional<DeferredRecord>> read_deferred(const RocksHandle& handle,
                                                                  LaneId lane, Seq seq);
/// Every deferred record that can be read, by lane and number; returns how many places there are
/// where some cannot. A database of format 1 that is open read-only has none.
std::uint64_t visit_deferred(const RocksHandle& handle,
                             const std::function<void(const StoredDeferred&)>& visit);

}  // namespace opsrelay::spool
