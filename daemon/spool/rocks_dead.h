// Dead letters in the database. Used by RocksStore only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "core/error.h"
#include "spool/dead_letter.h"
#include "spool/rocks_state.h"
#include "spool/store.h"

namespace rocksdb {
class Iterator;
class WriteBatch;
}  // namespace rocksdb

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

/// Adds the letters to the batch, each with its own key. Returns what `usage` becomes, which is
/// added to the batch when it changes: a letter that is there already (its ack was forgotten in a
/// crash and came again) is overwritten. Errors: as classify().
[[nodiscard]] Result<DeadUsage> put_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                         const DeadUsage& usage,
                                         std::span<const DeadLetter> letters);

/// The ack's dead letters, with their kind and lane.
[[nodiscard]] std::vector<DeadLetter> letters_of(const Ack& ack);
/// Adds what makes failed replays undone, if there are any, before anything else is written.
/// Returns what the usage becomes. Errors: as classify().
[[nodiscard]] Result<DeadUsage> undo_replays_in(const RocksHandle& handle,
                                                rocksdb::WriteBatch& batch, const SpoolBook& book);

/// What a batch takes away, for forget_dead() once it is written.
struct TakenDead {
    std::vector<DeadLetter> letters;
    std::vector<Segment> segments;      // take_dead(): their records, in the order of the keys
    DeadUsage usage;                    // what it becomes
    std::set<std::uint64_t> admission;  // numbers of letters asked for, found or not
};
/// Adds the deletes of these letters and the new usage to the batch. Unknown ones are left out.
/// Errors: as classify().
[[nodiscard]] Result<TakenDead> drop_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                          const DeadUsage& usage, std::span<const DeadKey> keys);
/// The same, and their records in segments. Letters without an event are left out.
/// Errors: spool_corrupt; as classify().
[[nodiscard]] Result<TakenDead> take_dead(const RocksHandle& handle, rocksdb::WriteBatch& batch,
                                          const DeadUsage& usage, LaneId lane,
                                          std::span<const Revival> letters);
/// The batch is written.
void forget_dead(SpoolBook& book, const TakenDead& taken);

/// RocksDB's iterator ends at a block that cannot be read. Numbers have gaps of any size, so those
/// behind it are looked for in growing steps, which may leave out as many as were passed; then in
/// the next lane and kind. `at`: what would come next. False: nothing behind it can be read.
[[nodiscard]] bool skip_damaged_letters(rocksdb::Iterator& it, const DeadKey& at);
/// Store::read_dead().
[[nodiscard]] Result<DeadPage> read_dead_page(const RocksHandle& handle, const DeadQuery& query);

}  // namespace opsrelay::spool
