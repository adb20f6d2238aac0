// Finds stored segments of one lane, going around what cannot be read. Used by RocksStore only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "spool/segment.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Iterator;
class Status;
}  // namespace rocksdb

namespace opsrelay::spool {

/// The largest key of the family in [low, seq], without reading what it holds; nullopt: none that
/// can be found.
[[nodiscard]] std::optional<Seq> last_key_up_to(rocksdb::DB& db,
                                                rocksdb::ColumnFamilyHandle& family, Seq low,
                                                Seq seq);

/// A stretch of keys of one family, [low, end). Lives for one read.
class SegmentReader {
public:
    SegmentReader(rocksdb::DB& db, rocksdb::ColumnFamilyHandle& family, Seq low, Seq end)
        : db_(db), family_(family), low_(low), end_(end) {}

    /// The segment that holds `from`, or the first behind it that can be read; nullopt: none.
    /// Errors: as classify(), never spool_corrupt.
    [[nodiscard]] Result<std::optional<StoredSegment>> find(Seq from);
    /// What was wrong with the first damaged thing that find() went around; empty: nothing.
    [[nodiscard]] const std::string& damage() const noexcept { return damage_; }

private:
    using Found = Result<std::optional<StoredSegment>>;
    // `stuck` becomes the key at which the iterator met a damaged block.
    [[nodiscard]] Found walk(rocksdb::Iterator& it, Seq from, std::optional<Seq>& stuck);
    [[nodiscard]] Found forward(rocksdb::Iterator& it, Seq at, std::optional<Seq>& stuck);
    [[nodiscard]] Found grope(rocksdb::Iterator& it, Seq from, Seq stuck);
    [[nodiscard]] Found lookup(Seq key);
    [[nodiscard]] std::optional<StoredSegment> search_tables(Seq from, Seq end);
    [[nodiscard]] std::optional<StoredSegment> decode(std::string_view value, Seq first_seq);
    void note(std::string text);

    rocksdb::DB& db_;
    rocksdb::ColumnFamilyHandle& family_;
    Seq low_;
    Seq end_;
    std::string damage_;
};

}  // namespace opsrelay::spool
