// Dead letters in the database. Used by RocksStore only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/error.h"
#include "spool/dead_letter.h"
#include "spool/store.h"

namespace rocksdb {
class WriteBatch;
}

namespace opsrelay::spool {

class RocksHandle;

/// What a batch does to the admission dead letters, for AdmissionLetters::replace() once it is
/// written.
struct AdmissionChange {
    std::vector<AdmissionLetters::Entry> fresh;
    std::size_t evicted = 0;
};
/// Adds `rejected` to the batch, and the deletes of what they push out.
[[nodiscard]] AdmissionChange put_rejected(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                           const AdmissionLetters& letters,
                                           std::span<const DeadLetter> rejected);

/// Adds the ack's dead letters to the batch. Returns how many of them are new: one that is there
/// already (its ack was forgotten in a crash and came again) is overwritten.
[[nodiscard]] Result<std::uint64_t> put_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                             const Ack& ack);
/// What take_dead() took: the records in segments, and the letters to put back if the batch fails.
struct TakenDead {
    std::vector<Segment> segments;
    std::vector<DeadLetter> letters;
};
/// Takes these upstream dead letters away in the batch and returns their records in segments, in
/// the order of their old numbers. Unknown ones, and those without their event, are left out.
/// Errors: spool_corrupt; as classify().
[[nodiscard]] Result<TakenDead> take_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                          LaneId lane, std::span<const Seq> seqs);

}  // namespace opsrelay::spool
