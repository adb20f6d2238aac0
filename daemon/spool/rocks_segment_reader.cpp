#include "spool/rocks_segment_reader.h"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "spool/keys.h"
#include "spool/options.h"
#include "spool/rocks_options.h"
#include "spool/rocks_status.h"
#include "spool/rocks_tables.h"
#include "spool/segment_scan.h"

namespace opsrelay::spool {
namespace {

// Behind damage, the iterator is tried again after this many point lookups...
constexpr std::uint64_t kLookupsPerSeek = 32;
// ...and after this many the steps grow, so that a hole of any size ends the search soon.
constexpr std::uint64_t kLookupsInSequence = 16'384;

rocksdb::Slice slice(const SeqKey& key) { return {key.data(), key.size()}; }

}  // namespace

std::optional<Seq> last_key_up_to(rocksdb::DB& db, rocksdb::ColumnFamilyHandle& family, Seq low,
                                  Seq seq) {
    const auto low_key = seq_key(low);
    const auto low_slice = slice(low_key);
    auto read = make_read_options();
    read.iterate_lower_bound = &low_slice;
    const std::unique_ptr<rocksdb::Iterator> it(db.NewIterator(read, &family));
    const auto target = seq_key(seq);
    it->SeekForPrev(slice(target));
    return it->Valid() ? parse_seq_key(it->key().ToStringView()) : std::nullopt;
}

Result<std::optional<StoredSegment>> SegmentReader::find(Seq from) {
    const auto low_key = seq_key(std::min(low_, from));
    const auto end_key = seq_key(end_);
    const auto low_slice = slice(low_key);
    const auto end_slice = slice(end_key);
    auto read = make_read_options();
    // The lower bound keeps the iterator off what was consumed: without it a seek gets slower with
    // every segment that was ever acknowledged.
    read.iterate_lower_bound = &low_slice;
    read.iterate_upper_bound = &end_slice;
    const std::unique_ptr<rocksdb::Iterator> it(db_.NewIterator(read, &family_));
    std::optional<Seq> stuck;
    auto found = walk(*it, from, stuck);
    if (stuck) found = grope(*it, from, *stuck);
    if (!found || !stuck) return found;
    // A table whose index is damaged looks as if all that it holds were lost.
    const Seq behind = *found ? (*found)->first_seq : end_;
    if (behind > from) {
        if (auto hidden = search_tables(from, behind)) return hidden;
    }
    return found;
}

// The first segment that lies in [from, end) or ends there, by its own checksum. It is looked for
// in the youngest of the files that should hold it: an older one may have what was overwritten.
std::optional<StoredSegment> SegmentReader::search_tables(Seq from, Seq end) {
    rocksdb::ColumnFamilyMetaData all;
    db_.GetColumnFamilyMetaData(&family_, &all);
    std::vector<rocksdb::SstFileMetaData> files;
    for (const auto& level : all.levels) {
        files.insert(files.end(), level.files.begin(), level.files.end());
    }
    const auto covers = [](const rocksdb::SstFileMetaData& file, Seq low, Seq high) {
        const auto low_key = seq_key(low);
        const auto high_key = seq_key(high);
        return file.smallestkey <= std::string_view(high_key.data(), high_key.size()) &&
               file.largestkey >= std::string_view(low_key.data(), low_key.size());
    };
    std::optional<StoredSegment> first;
    for (const auto& file : files) {
        if (!covers(file, from - std::min<Seq>(from, kSegmentEventsMax), end)) continue;
        const auto bytes = read_table(file.db_path + file.name);
        if (!bytes) continue;  // what it holds is reported as lost
        scan_segments(*bytes, [&](FoundSegment& found) {
            auto& segment = found.segment;
            const auto at = segment.first_seq;
            if (segment.end_seq() <= from) return true;
            if (segment.end_seq() > end) return false;
            const bool overwritten =
                std::any_of(files.begin(), files.end(), [&](const auto& other) {
                    return other.largest_seqno > file.largest_seqno && covers(other, at, at);
                });
            if (!overwritten && (!first || at < first->first_seq)) first = std::move(segment);
            return overwritten;
        });
    }
    return first;
}

SegmentReader::Found SegmentReader::walk(rocksdb::Iterator& it, Seq from,
                                         std::optional<Seq>& stuck) {
    const auto from_key = seq_key(from);
    it.SeekForPrev(slice(from_key));
    Seq at = from;
    if (it.Valid()) {
        if (const auto first = parse_seq_key(it.key().ToStringView())) {
            auto segment = decode(it.value().ToStringView(), *first);
            if (segment && segment->end_seq() > from) return segment;
            at = std::max(from, *first + 1);
        }
    } else if (it.status().IsCorruption()) {
        note(it.status().ToString());
        stuck = from;
        return std::optional<StoredSegment>{};
    } else if (!it.status().ok()) {
        return rocks_error(it.status(), fmt::format("read segment of record {}", from));
    }
    return forward(it, at, stuck);
}

SegmentReader::Found SegmentReader::forward(rocksdb::Iterator& it, Seq at,
                                            std::optional<Seq>& stuck) {
    const auto at_key = seq_key(at);
    for (it.Seek(slice(at_key)); it.Valid(); it.Next()) {
        const auto first = parse_seq_key(it.key().ToStringView());
        if (!first) continue;
        auto segment = decode(it.value().ToStringView(), *first);
        if (segment) return segment;
        at = *first + 1;
    }
    if (it.status().IsCorruption()) {
        note(it.status().ToString());
        stuck = at;
    } else if (!it.status().ok()) {
        return rocks_error(it.status(), fmt::format("read segments from record {}", at));
    }
    return std::optional<StoredSegment>{};
}

// The iterator is stopped by a damaged block, even by one of a later file. A point lookup reads
// only the file that covers its key, so the neighbourhood is searched key by key.
SegmentReader::Found SegmentReader::grope(rocksdb::Iterator& it, Seq from, Seq stuck) {
    for (Seq at = from; at >= low_ && at + kSegmentEventsMax > from && stuck == from; --at) {
        auto segment = lookup(at);
        if (!segment) return segment.error();
        if (!*segment) continue;
        if ((*segment)->end_seq() > from) return segment;
        break;
    }
    Seq at = std::max(stuck, from + 1);
    std::uint64_t step = 1;
    for (std::uint64_t lookups = 0; at < end_; ++lookups) {
        auto segment = lookup(at);
        if (!segment || *segment) return segment;
        if (lookups % kLookupsPerSeek == 0 || step > 1) {
            std::optional<Seq> stuck_again;
            auto found = forward(it, at, stuck_again);
            if (!found || *found || !stuck_again) return found;
            if (*stuck_again > at) {
                at = *stuck_again;
                continue;
            }
        }
        if (lookups >= kLookupsInSequence) step *= 2;
        if (end_ - std::min(at, end_) <= step) break;
        at += step;
    }
    return std::optional<StoredSegment>{};
}

SegmentReader::Found SegmentReader::lookup(Seq key) {
    auto read = make_read_options();
    read.fill_cache = true;  // neighbouring lookups need the same blocks
    std::string value;
    const auto bytes = seq_key(key);
    const auto status = db_.Get(read, &family_, slice(bytes), &value);
    if (status.ok()) return decode(value, key);
    if (status.IsCorruption()) note(status.ToString());
    if (status.IsCorruption() || status.IsNotFound()) return std::optional<StoredSegment>{};
    return rocks_error(status, fmt::format("read segment {}", key));
}

std::optional<StoredSegment> SegmentReader::decode(std::string_view value, Seq first_seq) {
    auto segment = decode_segment(value, first_seq);
    if (segment) return std::move(*segment);
    note(segment.error().context);
    return std::nullopt;
}

void SegmentReader::note(std::string text) {
    if (damage_.empty()) damage_ = std::move(text);
}

}  // namespace opsrelay::spool
