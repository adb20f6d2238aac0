// What RocksStore remembers about its database while it is open, and how that is read back at
// start. Used by RocksStore only. Thread: storage.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "spool/dead_letter.h"
#include "spool/keys.h"
#include "spool/rocks_open.h"

namespace rocksdb {
class WriteBatch;
}  // namespace rocksdb

namespace opsrelay::spool {

class RocksWriter;

struct LaneBook {
    rocksdb::ColumnFamilyHandle* family = nullptr;
    std::string name;
    bool named = true;  // false: a crash came before the name; the next new lane takes the number
    bool paused = false;
    std::string memo;
    Cursor cursor;
    Seq next_write = 1;
    /// A commit failed, so its segment may be on disk at next_write. Its retry writes the same key.
    bool commit_in_doubt = false;
    /// A replay failed: the keys and the dead letters it may have written and taken away.
    std::vector<Seq> replay_keys;
    std::vector<DeadLetter> replay_letters;

    /// Segments whose put is still in the current memory table: [first, end). Only these are
    /// deleted by key, since a delete that meets its put there costs nothing and any other makes
    /// files overlap. Bounded by the memory table.
    struct Fresh {
        Seq first = 0;
        Seq end = 0;
    };
    std::deque<Fresh> fresh;
    std::uint64_t seals_seen = 0;

    /// Segments that were read and are not settled: [first, end), ascending. They say in which one
    /// the cursor lies without asking the database. Bounded by the records in flight.
    std::deque<Fresh> read;

    std::map<Seq, DeferredEntry> deferred;  // by number; bounded (options.h)

    // Since settled segments' files were last given back.
    std::uint64_t settled_records = 0;
    Bytes read_bytes;
    Seq dropped_below = 1;
};

struct SpoolBook {
    std::uint64_t salt = 0;
    std::map<LaneId, LaneBook> lanes;
    std::uint64_t next_entry = 1;  // of the id log
    std::uint64_t sealed = 1;      // the first entry still needed
    AdmissionLetters admission;
    DeadUsage dead;  // of accepted records
};

/// Makes a spool of an older format one of this: synced, and before anything of the new format is
/// written. Errors: as Store::commit().
[[nodiscard]] Result<void> upgrade_format(const RocksHandle& handle);

/// After a reopen: numbers that were confirmed are kept, and what is in doubt is still known.
void keep_confirmed(SpoolBook& reopened, SpoolBook before);

/// A failed commit may be on disk all the same. If it was given up, what comes next takes its keys;
/// lanes that nothing comes next for lose theirs with this batch.
void settle_doubts(rocksdb::WriteBatch& batch, const SpoolBook& book,
                   const std::set<LaneId>& rewritten);

/// Store::lanes().
[[nodiscard]] std::vector<LaneState> lane_states(const SpoolBook& book);
/// Store::dead_ends().
[[nodiscard]] DeadEnds dead_ends_of(const SpoolBook& book);
/// Store::make_lane() and set_paused(). Errors: as there.
[[nodiscard]] Result<LaneId> make_lane(RocksHandle& handle, RocksWriter& writer, SpoolBook& book,
                                       std::string_view name);
[[nodiscard]] Result<void> set_paused(const RocksHandle& handle, RocksWriter& writer, LaneId lane,
                                      LaneBook& book, bool paused);
/// Below which segment nothing unsettled lies when `next` is the first record without an outcome.
[[nodiscard]] Seq segment_at(const RocksHandle& handle, LaneBook& book, Seq next);

/// Checks the format, makes what is missing (format, salt, lanes) and reads the rest. Bounded work,
/// whatever the backlog. Errors: spool_unusable: newer format, another lane of this number, no
/// write possible; spool_corrupt: what cannot be done without is damaged.
[[nodiscard]] Result<SpoolBook> load_book(const RocksHandle& handle, const Options& options,
                                          const RocksSetup& setup);

}  // namespace opsrelay::spool
