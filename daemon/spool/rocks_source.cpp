#include "spool/rocks_source.h"

#include <fmt/format.h>
#include <rocksdb/sst_file_reader.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>

#include "spool/dead_letter.h"
#include "spool/quarantine.h"
#include "spool/rocks_dead.h"
#include "spool/rocks_options.h"
#include "spool/rocks_tables.h"
#include "spool/segment_scan.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

// "ack/3" -> 3.
std::optional<LaneId> lane_in(std::string_view key, std::string_view prefix) {
    if (!key.starts_with(prefix)) return std::nullopt;
    const auto digits = key.substr(prefix.size());
    std::uint16_t lane = 0;
    const auto [stop, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), lane);
    if (ec != std::errc{} || stop != digits.data() + digits.size()) return std::nullopt;
    return LaneId{lane};
}

using LetterVisitor = std::function<void(const DeadKey&, std::string_view value)>;

// Returns how many blocks could not be read.
std::uint64_t visit_letters(rocksdb::SstFileReader& reader, const LetterVisitor& visit) {
    std::uint64_t damaged = 0;
    DeadKey at;  // everything before it has been looked at
    const std::unique_ptr<rocksdb::Iterator> it(reader.NewIterator(make_read_options()));
    for (it->SeekToFirst();;) {
        if (!it->Valid()) {
            if (it->status().ok()) return damaged;
            ++damaged;
            if (!skip_damaged_letters(*it, at)) return damaged;
            continue;
        }
        if (const auto key = parse_dead_key(it->key().ToStringView())) {
            visit(*key, it->value().ToStringView());
            at = *key;
            ++at.number;
        }
        it->Next();
    }
}

}  // namespace

/// What was visited: the same segment may be in a log and in several tables.
class FileSource::Seen {
public:
    using Ranges = std::map<Seq, Seq>;  // from a number to the end, such that none touch

    bool insert(LaneId lane, const StoredSegment& segment) {
        const auto hash = std::hash<std::string>{}(segment.payload);
        if (!segments_.insert({lane, {segment.first_seq, hash}}).second) return false;
        add(numbers_[lane], segment.first_seq, segment.end_seq());
        return true;
    }
    /// nullptr: none of this lane.
    [[nodiscard]] const Ranges* numbers(LaneId lane) const {
        const auto found = numbers_.find(lane);
        return found == numbers_.end() ? nullptr : &found->second;
    }

private:
    static void add(Ranges& ranges, Seq first, Seq end) {
        auto at = ranges.upper_bound(first);
        if (at != ranges.begin() && std::prev(at)->second >= first) --at;
        while (at != ranges.end() && at->first <= end) {
            first = std::min(first, at->first);
            end = std::max(end, at->second);
            at = ranges.erase(at);
        }
        ranges.emplace(first, end);
    }

    std::set<std::pair<LaneId, std::pair<Seq, std::size_t>>> segments_;
    std::map<LaneId, Ranges> numbers_;
};

Result<FileSource> FileSource::open(const std::string& dir) {
    FileSource source;
    source.dir_ = dir;
    std::error_code ec;
    for (fs::recursive_directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec)) {
        const auto& path = it->path();
        std::error_code size_ec;
        if (path.extension() != ".sst" && path.extension() != ".log") continue;
        source.bytes_ += it->file_size(size_ec);
        (path.extension() == ".sst" ? source.tables_ : source.logs_).push_back(path);
    }
    if (ec) return errno_error(Errc::io, fmt::format("read {}", dir), ec.value());
    std::sort(source.tables_.begin(), source.tables_.end());
    std::sort(source.logs_.begin(), source.logs_.end());
    for (const auto& table : source.tables_) source.learn_from_table(table);
    for (const auto& log : source.logs_) {
        if (auto learnt = source.learn_from_log(log); !learnt) return learnt.error();
    }
    return source;
}

// Of one that cannot be opened nothing else is learnt: its records are then taken as not settled.
void FileSource::learn_deferred_from_table(const std::string& file) {
    const auto bytes = read_table(file);
    if (!bytes) return;
    scan_deferred(*bytes, [this](const StoredDeferred& stored) { learn_deferred(stored); });
}

void FileSource::learn_from_table(const std::string& file) {
    const auto options = make_file_options(kDefaultFamily);
    rocksdb::SstFileReader reader(options);
    if (!reader.Open(file).ok()) return learn_deferred_from_table(file);
    const auto properties = reader.GetTableProperties();
    if (const auto lane = parse_segment_family(properties->column_family_name)) {
        lanes_[static_cast<FamilyNumber>(properties->column_family_id)] = *lane;
    }
    if (properties->column_family_name == kDeadFamily) {
        visit_letters(reader, [this](const DeadKey& key, std::string_view) { learn_dead(key); });
    }
    if (properties->column_family_name == kDeferredFamily) {
        deferred_family_ = static_cast<FamilyNumber>(properties->column_family_id);
        return learn_deferred_from_table(file);
    }
    if (properties->column_family_name != kDefaultFamily) return;
    const std::unique_ptr<rocksdb::Iterator> it(reader.NewIterator(make_read_options()));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
        learn(it->key().ToStringView(), it->value().ToStringView());
    }
}

void FileSource::learn_deferred(const StoredDeferred& stored) {
    deferred_[{stored.lane, stored.record.seq}] = stored;
}

// In every batch the end of the lane follows its segment, which tells the family's lane.
Result<void> FileSource::learn_from_log(const std::string& file) {
    std::optional<std::pair<FamilyNumber, Seq>> segment;
    const auto put = [&](FamilyNumber family, std::string_view key, std::string_view value) {
        if (family != kDefaultFamilyNumber) {
            const auto outline = read_segment_outline(value);
            if (outline) segment = {family, outline->first_seq + outline->count};
            if (const auto dead = parse_dead_key(key)) {
                dead_in_logs_[*dead] = true;
                learn_dead(*dead);
            }
            if (const auto stored = decode_deferred(value)) {
                deferred_family_ = family;
                learn_deferred(*stored);
            }
            return;
        }
        learn(key, value);
        const auto lane = lane_in(key, "end/");
        if (lane && segment && decode_u64(value) == segment->second) lanes_[segment->first] = *lane;
    };
    const auto remove = [this](FamilyNumber family, std::string_view key) {
        const auto dead = family == kDefaultFamilyNumber ? std::nullopt : parse_dead_key(key);
        if (dead) dead_in_logs_[*dead] = false;
        const auto record = parse_deferred_key(key);
        if (record && family == deferred_family_) deferred_.erase(*record);
    };
    const auto read = visit_log(file, {put, remove});
    if (!read) return read.error();
    return {};
}

void FileSource::learn_dead(const DeadKey& key) {
    if (key.kind == DeadKind::upstream) dead_records_[key.lane].insert(key.number);
}

void FileSource::visit_deferred(const std::function<void(const StoredDeferred&)>& visit) const {
    for (const auto& [key, stored] : deferred_) {
        if (!has_letter(key.first, key.second)) visit(stored);
    }
}

bool FileSource::has_letter(LaneId lane, Seq seq) const {
    const auto dead = dead_records_.find(lane);
    return dead != dead_records_.end() && dead->second.contains(seq);
}

void FileSource::learn(std::string_view key, std::string_view value) {
    if (const auto lane = lane_in(key, "lane/")) names_[*lane] = value;
    if (const auto lane = lane_in(key, "end/")) {
        ends_[*lane] = std::max(ends_[*lane], decode_u64(value).value_or(0));
    }
    const auto lane = lane_in(key, "ack/");
    auto cursor = lane ? decode_cursor(value) : std::nullopt;
    if (cursor && cursor->next >= cursors_[*lane].next) cursors_[*lane] = std::move(*cursor);
}

bool FileSource::is_settled(LaneId lane, Seq seq) const {
    if (has_letter(lane, seq) || deferred_.contains({lane, seq})) return true;
    const auto found = cursors_.find(lane);
    if (found == cursors_.end()) return false;
    const auto& ahead = found->second.ahead;
    return seq < found->second.next || std::binary_search(ahead.begin(), ahead.end(), seq);
}

Result<std::uint64_t> FileSource::visit_dead(const VisitDead& visit) const {
    std::set<DeadKey> seen;
    std::uint64_t damaged = 0;
    bool go_on = true;
    const auto offer = [&](const DeadKey& key, std::string_view value) {
        if (!go_on || !seen.insert(key).second) return;
        auto letter = decode_dead_letter(value);
        if (letter && key_of(*letter) == key) {
            go_on = visit(*letter);
        } else {
            ++damaged;
        }
    };
    // The newest first: what it says of a letter holds.
    for (auto file = tables_.rbegin(); file != tables_.rend() && go_on; ++file) {
        if (family_of_table(*file) != kDeadFamily) continue;
        const auto options = make_file_options(kDeadFamily);
        rocksdb::SstFileReader reader(options);
        if (!reader.Open(*file).ok()) {
            ++damaged;
            continue;
        }
        damaged += visit_letters(reader, [&](const DeadKey& key, std::string_view value) {
            if (!dead_in_logs_.contains(key)) offer(key, value);
        });
    }
    for (const auto& file : logs_) {
        const auto put = [&](FamilyNumber family, std::string_view key, std::string_view value) {
            const auto dead = family == kDefaultFamilyNumber ? std::nullopt : parse_dead_key(key);
            if (dead && dead_in_logs_.at(*dead)) offer(*dead, value);
        };
        const auto read = visit_log(file, {put, [](FamilyNumber, std::string_view) {}});
        if (!read) return read.error();
    }
    return damaged;
}

// With one lane there is no doubt.
std::optional<LaneId> FileSource::lane_of(FamilyNumber family) const {
    if (const auto known = lanes_.find(family); known != lanes_.end()) return known->second;
    if (names_.size() == 1) return names_.begin()->first;
    return std::nullopt;
}

Result<FileSource::LeftOut> FileSource::visit_segments(const Visit& visit) const {
    Seen seen;
    LeftOut left;
    bool go_on = true;
    const auto offer = [&](std::optional<LaneId> lane, const StoredSegment& segment) {
        if (!lane) left.no_lane += segment.end_seq() - segment.first_seq;
        if (!lane || !seen.insert(*lane, segment)) return;
        auto seq = segment.first_seq;
        while (seq < segment.end_seq() && is_settled(*lane, seq)) ++seq;
        if (seq < segment.end_seq()) go_on = visit(*lane, segment);
    };
    for (const auto& file : tables_) {
        if (!go_on) break;
        const auto family = family_of_table(file);
        auto lane = parse_segment_family(family);
        if (!lane && !family.empty()) continue;
        if (!lane) lane = lane_of(kUnknownFamily);
        const auto bytes = read_table(file);
        if (!bytes) return bytes.error();
        scan_segments(*bytes, [&](const FoundSegment& found) {
            offer(lane, found.segment);
            return go_on;
        });
    }
    for (const auto& file : logs_) {
        std::optional<LaneId> last_end;
        const auto put = [&](FamilyNumber family, std::string_view key, std::string_view value) {
            if (family == kDefaultFamilyNumber) last_end = lane_in(key, "end/");
            const auto outline = go_on ? read_segment_outline(value) : std::nullopt;
            if (family == kDefaultFamilyNumber || !outline) return;
            const auto segment = decode_segment(value, outline->first_seq);
            if (segment) offer(family == kUnknownFamily ? last_end : lane_of(family), *segment);
        };
        const auto read = visit_log(file, {put, [](FamilyNumber, std::string_view) {}});
        if (!read) return read.error();
    }
    left.missing = count_missing(seen);
    return left;
}

std::uint64_t FileSource::count_missing(const Seen& seen) const {
    std::uint64_t missing = 0;
    for (const auto& [lane, end] : ends_) {
        const auto cursor = cursors_.find(lane);
        Seq at = cursor == cursors_.end() ? 1 : cursor->second.next;
        const auto* const ranges = seen.numbers(lane);
        for (const auto& [first, past] : ranges != nullptr ? *ranges : Seen::Ranges{}) {
            missing += count_unsettled(lane, at, first);
            at = std::max(at, past);
        }
        missing += count_unsettled(lane, at, end);
    }
    return missing;
}

std::uint64_t FileSource::count_unsettled(LaneId lane, Seq from, Seq end) const {
    if (from >= end) return 0;
    std::set<Seq> settled;
    const auto note = [&](Seq seq) {
        if (seq >= from && seq < end) settled.insert(seq);
    };
    if (const auto found = cursors_.find(lane); found != cursors_.end()) {
        for (const auto seq : found->second.ahead) note(seq);
    }
    if (const auto found = dead_records_.find(lane); found != dead_records_.end()) {
        for (const auto seq : found->second) note(seq);
    }
    for (const auto& [key, stored] : deferred_) {
        if (key.first == lane) note(key.second);
    }
    return end - from - settled.size();
}

Result<std::uint64_t> FileSource::count_damaged_files() const {
    std::uint64_t damaged = 0;
    const auto options = make_file_options(kDefaultFamily);
    for (const auto& file : tables_) {
        rocksdb::SstFileReader reader(options);
        const bool whole = reader.Open(file).ok() && reader.VerifyChecksum().ok();
        if (!whole) ++damaged;
    }
    const auto last = log_files(dir_);
    const LogVisitor nothing{[](FamilyNumber, std::string_view, std::string_view) {},
                             [](FamilyNumber, std::string_view) {}};
    for (const auto& file : logs_) {
        const auto read = visit_log(file, nothing);
        if (!read) return read.error();
        const bool may_be_torn = !last.empty() && file == last.back();
        if (read->damaged_bytes > 0 || (read->torn_bytes > 0 && !may_be_torn)) ++damaged;
    }
    return damaged;
}

}  // namespace opsrelay::spool
