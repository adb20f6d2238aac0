#include "spool/rocks_scan.h"

#include <rocksdb/db.h>

#include <memory>

#include "spool/keys.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"

namespace opsrelay::spool {
namespace {

// Behind damage, the iterator is tried again after this many point lookups.
constexpr std::uint64_t kLookupsPerSeek = 32;

rocksdb::Slice slice(const SeqKey& key) { return {key.data(), key.size()}; }

}  // namespace

Result<bool> visit_entries(rocksdb::DB& db, rocksdb::ColumnFamilyHandle& family, std::uint64_t low,
                           std::uint64_t end, const EntryVisitor& visit) {
    const auto low_key = seq_key(low);
    const auto end_key = seq_key(end);
    const auto low_slice = slice(low_key);
    const auto end_slice = slice(end_key);
    auto read = make_read_options();
    read.iterate_lower_bound = &low_slice;
    read.iterate_upper_bound = &end_slice;
    const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator(read, &family));
    bool damaged = false;
    std::uint64_t at = low;
    while (at < end) {
        const auto at_key = seq_key(at);
        for (it->Seek(slice(at_key)); it->Valid(); it->Next()) {
            const auto number = parse_seq_key(it->key().ToStringView());
            if (!number) continue;
            visit(*number, it->value().ToStringView());
            at = *number + 1;
        }
        if (it->status().ok()) break;
        if (!it->status().IsCorruption()) return rocks_error(it->status(), "read the id log");
        // A damaged block stops the iterator, even one of a later file; a lookup reads only the
        // file that covers its key.
        damaged = true;
        std::string value;
        for (std::uint64_t i = 0; i < kLookupsPerSeek && at < end; ++i, ++at) {
            const auto key = seq_key(at);
            const auto status = db.Get(make_read_options(), &family, slice(key), &value);
            if (status.ok()) visit(at, value);
            if (status.ok() || status.IsNotFound() || status.IsCorruption()) continue;
            return rocks_error(status, "read the id log");
        }
    }
    return damaged;
}

}  // namespace opsrelay::spool
